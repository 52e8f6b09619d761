/* Faults inside a process that knows nothing of them: loaded before the C library, told what to do
 * through a small file that is mapped into memory, so that a fault begins and ends at once.
 *
 * The process is known by the name of its configuration file (--config .../NAME.toml); its file is
 * $FAULTS_FOLDER/NAME.control. A process without one, or without the variable, is left alone.
 * Files:    errors and delays on regular files below a folder whose path holds `path`; a torn write
 *           puts half of its pages there, and the process dies.
 * Clock:    the wall clock is shifted; the monotonic one is not.
 * Network:  connections to 127.0.0.1 on one of `ports` go to 127.0.host.1 instead.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <limits.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 32
#define PATH_BYTES 64
#define STEP_US 20000
#define PAGE 4096
#define EPOCH_S_MIN 1000000000 /* absolute times beyond this are of the wall clock */

struct control { /* the same as shim.py's LAYOUT */
    int64_t clock_offset_ns;
    int64_t delay_us;
    int32_t sync_error;
    int32_t write_error;
    int32_t read_error;
    int32_t space_error;
    int32_t tear;
    int32_t host;
    int32_t ports[PORTS_MAX];
    char path[PATH_BYTES];
};

static volatile struct control *control;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int find_name(char *name, size_t size) {
    char text[8192];
    int file = open("/proc/self/cmdline", O_RDONLY);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    for (char *word = text; word < text + length; word += strlen(word) + 1) {
        if (strcmp(word, "--config")) continue;
        char *path = word + strlen(word) + 1;
        if (path >= text + length) return 0;
        char *slash = strrchr(path, '/');
        snprintf(name, size, "%s", slash ? slash + 1 : path);
        char *dot = strrchr(name, '.');
        if (dot) *dot = 0;
        return 1;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    char name[256], path[4096];
    const char *folder = getenv("FAULTS_FOLDER");
    if (!folder || !find_name(name, sizeof name)) return;
    snprintf(path, sizeof path, "%s/%s.control", folder, name);
    int file = open(path, O_RDONLY);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

/* Whether a descriptor is a file that faults are meant for; only asked while there is a fault. */
static int is_meant(int file) {
    char link[64], path[4096], wanted[PATH_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    memcpy(wanted, (const void *)control->path, PATH_BYTES);
    wanted[PATH_BYTES - 1] = 0;
    return wanted[0] && strstr(path, wanted) != NULL;
}

/* Delay, and whether the call shall fail; errno is set then. */
static int fails(int file, volatile int32_t *error) {
    if (!control || (!*error && !control->delay_us) || !is_meant(file)) return 0;
    for (int64_t left = control->delay_us; left > 0 && control->delay_us; left -= STEP_US)
        usleep((useconds_t)(left < STEP_US ? left : STEP_US)); /* a hung disk can be healed */
    if (!*error) return 0;
    errno = *error;
    return 1;
}

#define FAILS(file, field) (control && fails(file, &control->field))

/* A power cut in the middle of a write: the first half of the pages is there. */
static void tear(int file, const struct iovec *pieces, int count, off64_t offset) {
    if (!control || !control->tear || !is_meant(file)) return;
    ssize_t (*real)(int, const struct iovec *, int, off64_t) =
        (ssize_t (*)(int, const struct iovec *, int, off64_t))dlsym(RTLD_NEXT, "pwritev64");
    struct iovec kept[IOV_MAX];
    size_t total = 0;
    int used = 0;
    for (int i = 0; i < count; i++) total += pieces[i].iov_len;
    size_t left = total / 2 > PAGE ? total / 2 / PAGE * PAGE : total / 2;
    for (; used < count && used < IOV_MAX && left > 0; used++) {
        kept[used] = pieces[used];
        if (kept[used].iov_len > left) kept[used].iov_len = left;
        left -= kept[used].iov_len;
    }
    if (offset < 0) offset = lseek64(file, 0, SEEK_CUR);
    if (used) (void)!real(file, kept, used, offset);
    kill(getpid(), SIGKILL);
}

static void tear_one(int file, const void *data, size_t size, off64_t offset) {
    struct iovec piece = {(void *)(uintptr_t)data, size};
    tear(file, &piece, 1, offset);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset) {
    REAL(pwritev);
    tear(file, pieces, count, offset);
    return FAILS(file, write_error) ? -1 : real(file, pieces, count, offset);
}
ssize_t pwritev64(int file, const struct iovec *pieces, int count, off64_t offset) {
    REAL(pwritev64);
    tear(file, pieces, count, offset);
    return FAILS(file, write_error) ? -1 : real(file, pieces, count, offset);
}
ssize_t pwritev2(int file, const struct iovec *pieces, int count, off_t offset, int flags) {
    REAL(pwritev2);
    tear(file, pieces, count, offset);
    if (flags & RWF_DSYNC && FAILS(file, sync_error)) return -1;
    return FAILS(file, write_error) ? -1 : real(file, pieces, count, offset, flags);
}
ssize_t pwritev64v2(int file, const struct iovec *pieces, int count, off64_t offset, int flags) {
    REAL(pwritev64v2);
    tear(file, pieces, count, offset);
    if (flags & RWF_DSYNC && FAILS(file, sync_error)) return -1;
    return FAILS(file, write_error) ? -1 : real(file, pieces, count, offset, flags);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    tear_one(file, data, size, offset);
    return FAILS(file, write_error) ? -1 : real(file, data, size, offset);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    tear_one(file, data, size, offset);
    return FAILS(file, write_error) ? -1 : real(file, data, size, offset);
}
ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    tear_one(file, data, size, -1);
    return FAILS(file, write_error) ? -1 : real(file, data, size);
}
ssize_t preadv(int file, const struct iovec *pieces, int count, off_t offset) {
    REAL(preadv);
    return FAILS(file, read_error) ? -1 : real(file, pieces, count, offset);
}
ssize_t preadv64(int file, const struct iovec *pieces, int count, off64_t offset) {
    REAL(preadv64);
    return FAILS(file, read_error) ? -1 : real(file, pieces, count, offset);
}
ssize_t preadv2(int file, const struct iovec *pieces, int count, off_t offset, int flags) {
    REAL(preadv2);
    return FAILS(file, read_error) ? -1 : real(file, pieces, count, offset, flags);
}
ssize_t preadv64v2(int file, const struct iovec *pieces, int count, off64_t offset, int flags) {
    REAL(preadv64v2);
    return FAILS(file, read_error) ? -1 : real(file, pieces, count, offset, flags);
}
ssize_t pread(int file, void *data, size_t size, off_t offset) {
    REAL(pread);
    return FAILS(file, read_error) ? -1 : real(file, data, size, offset);
}
ssize_t pread64(int file, void *data, size_t size, off64_t offset) {
    REAL(pread64);
    return FAILS(file, read_error) ? -1 : real(file, data, size, offset);
}
int fsync(int file) {
    REAL(fsync);
    return FAILS(file, sync_error) ? -1 : real(file);
}
int fdatasync(int file) {
    REAL(fdatasync);
    return FAILS(file, sync_error) ? -1 : real(file);
}
int sync_file_range(int file, off64_t offset, off64_t size, unsigned int flags) {
    REAL(sync_file_range);
    return FAILS(file, sync_error) ? -1 : real(file, offset, size, flags);
}
int fallocate(int file, int mode, off_t offset, off_t size) {
    REAL(fallocate);
    return FAILS(file, space_error) ? -1 : real(file, mode, offset, size);
}
int posix_fallocate(int file, off_t offset, off_t size) {
    REAL(posix_fallocate);
    return FAILS(file, space_error) ? errno : real(file, offset, size);
}
int posix_fallocate64(int file, off64_t offset, off64_t size) {
    REAL(posix_fallocate64);
    return FAILS(file, space_error) ? errno : real(file, offset, size);
}

static void shift(struct timespec *time, int64_t offset_ns) {
    int64_t total = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + offset_ns;
    time->tv_sec = total / 1000000000;
    time->tv_nsec = total % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && control && control->clock_offset_ns &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(now, control->clock_offset_ns);
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &time)) return -1;
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
/* Who computes when to wake up from the shifted clock shall not sleep for an hour more. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    REAL(pthread_cond_timedwait);
    struct timespec moved = *until;
    if (control && control->clock_offset_ns && until->tv_sec > EPOCH_S_MIN)
        shift(&moved, -control->clock_offset_ns);
    return real(condition, mutex, &moved);
}

int connect(int socket, const struct sockaddr *address, socklen_t size) {
    REAL(connect);
    struct sockaddr_in moved;
    if (!control || !control->host || address->sa_family != AF_INET || size < sizeof moved)
        return real(socket, address, size);
    memcpy(&moved, address, sizeof moved);
    if (ntohl(moved.sin_addr.s_addr) != INADDR_LOOPBACK) return real(socket, address, size);
    for (int i = 0; i < PORTS_MAX && control->ports[i]; i++)
        if (control->ports[i] == ntohs(moved.sin_port))
            moved.sin_addr.s_addr = htonl(0x7f000001 | (uint32_t)control->host << 8);
    return real(socket, (struct sockaddr *)&moved, sizeof moved);
}

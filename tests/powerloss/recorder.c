/* Every change that a process makes to files below a folder, in order: loaded before the C library.
 *
 * recorder_begin(root, log) starts and recorder_end() stops; recorder_mark(text) adds a remark. An
 * operation and its entry in the log are one step, under one lock: the log's order is the disk's.
 * Not seen: files opened by fopen (RocksDB's LOG) and writes through mappings (RocksDB makes none);
 * the recording is compared with the folder at its end, so nothing can be missed silently.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CLOSE, WRITE, TRUNCATE, ALLOCATE, SYNC, RENAME, UNLINK, RMDIR, MKDIR, MARK };
#define FILES_MAX 65536

struct entry { /* the same as recorder.py's ENTRY */
    uint32_t kind;
    int32_t file;
    uint64_t first;
    uint64_t second;
    uint64_t size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_size;
static int log_file = -1;
static unsigned char tracked[FILES_MAX];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void put(const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, "write");
    while (size) {
        ssize_t done = real(log_file, data, size);
        if (done <= 0) abort();
        data = (const char *)data + done;
        size -= (size_t)done;
    }
}

static void note(uint32_t kind, int file, uint64_t first, uint64_t second, const void *data,
                 size_t size) {
    int saved = errno;
    struct entry entry = {kind, file, first, second, size};
    put(&entry, sizeof entry);
    put(data, size);
    errno = saved;
}

static void note_pieces(int file, uint64_t offset, const struct iovec *pieces, size_t size) {
    int saved = errno;
    struct entry entry = {WRITE, file, offset, 0, size};
    put(&entry, sizeof entry);
    for (int at = 0; size; at++) {
        size_t part = pieces[at].iov_len < size ? pieces[at].iov_len : size;
        put(pieces[at].iov_base, part);
        size -= part;
    }
    errno = saved;
}

static int is_below(const char *path) {
    return log_file >= 0 && path && strncmp(path, root, root_size) == 0 &&
           (path[root_size] == '/' || path[root_size] == 0);
}

static int is_tracked(int file) {
    return log_file >= 0 && file >= 0 && file < FILES_MAX && tracked[file];
}

static void note_two(const char *source, const char *target) {
    char both[2 * PATH_MAX];
    size_t first = strlen(source) + 1, second = strlen(target);
    memcpy(both, source, first);
    memcpy(both + first, target, second);
    note(RENAME, 0, 0, 0, both, first + second);
}

void recorder_begin(const char *folder, int log) {
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s", folder);
    root_size = strlen(root);
    memset(tracked, 0, sizeof tracked);
    log_file = log;
    pthread_mutex_unlock(&lock);
}

void recorder_end(void) {
    pthread_mutex_lock(&lock);
    log_file = -1;
    pthread_mutex_unlock(&lock);
}

void recorder_mark(const char *text) {
    pthread_mutex_lock(&lock);
    if (log_file >= 0) note(MARK, 0, 0, 0, text, strlen(text));
    pthread_mutex_unlock(&lock);
}

/* One step: nothing of another thread comes between the call and its entry. */
#define STEP(condition, call, success, remark) \
    if (!(condition)) return call; \
    pthread_mutex_lock(&lock); \
    __typeof__(call) result = call; \
    if (success) { remark; } \
    pthread_mutex_unlock(&lock); \
    return result

static int noted_open(int (*real)(const char *, int, ...), const char *path, int flags, int mode) {
    if (!is_below(path)) {
        int file = real(path, flags, mode);
        if (file >= 0 && file < FILES_MAX) tracked[file] = 0;
        return file;
    }
    pthread_mutex_lock(&lock);
    int existed = access(path, F_OK) == 0;
    int file = real(path, flags, mode);
    if (file >= 0 && file < FILES_MAX) {
        tracked[file] = 1;
        note(OPEN, file, (uint64_t)flags, (uint64_t)existed, path, strlen(path));
    } else if (!existed && access(path, F_OK) == 0) {
        abort(); /* a refused O_DIRECT left a file that nobody recorded */
    }
    pthread_mutex_unlock(&lock);
    return file;
}

#define OPENER(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
        va_end(rest); \
        return noted_open((int (*)(const char *, int, ...))real, path, flags, mode); \
    }
OPENER(open)
OPENER(open64)

int openat(int folder, const char *path, int flags, ...) {
    REAL(openat);
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    if (is_below(path)) return open(path, flags, mode);
    return real(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    REAL(openat64);
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    if (is_below(path)) return open(path, flags, mode);
    return real(folder, path, flags, mode);
}

int close(int file) {
    REAL(close);
    STEP(is_tracked(file), real(file), 1, tracked[file] = 0; note(CLOSE, file, 0, 0, "", 0));
}

static uint64_t place(int file) {
    if (fcntl(file, F_GETFL) & O_APPEND) {
        struct stat found;
        return fstat(file, &found) ? 0 : (uint64_t)found.st_size;
    }
    return (uint64_t)lseek(file, 0, SEEK_CUR);
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    if (!is_tracked(file)) return real(file, data, size);
    pthread_mutex_lock(&lock);
    uint64_t at = place(file);
    ssize_t done = real(file, data, size);
    if (done > 0) note(WRITE, file, at, 0, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    REAL(writev);
    if (!is_tracked(file)) return real(file, pieces, count);
    pthread_mutex_lock(&lock);
    uint64_t at = place(file);
    ssize_t done = real(file, pieces, count);
    if (done > 0) note_pieces(file, at, pieces, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset_t) \
    ssize_t name(int file, const void *data, size_t size, offset_t offset) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, data, size, offset), result > 0, \
             note(WRITE, file, (uint64_t)offset, 0, data, (size_t)result)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_t) \
    ssize_t name(int file, const struct iovec *pieces, int count, offset_t offset) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, pieces, count, offset), result > 0, \
             note_pieces(file, (uint64_t)offset, pieces, (size_t)result)); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

static void note_flagged(
    int file, uint64_t offset, const struct iovec *pieces, size_t size, int flags) {
    note_pieces(file, offset, pieces, size);
    if (flags & RWF_DSYNC) note(SYNC, file, offset, size, "", 0);
}

#define PWRITEV2(name, offset_t) \
    ssize_t name(int file, const struct iovec *pieces, int count, offset_t offset, int flags) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, pieces, count, offset, flags), result > 0, \
             note_flagged(file, (uint64_t)offset, pieces, (size_t)result, flags)); \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

#define FTRUNCATE(name, offset_t) \
    int name(int file, offset_t size) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, size), result == 0, \
             note(TRUNCATE, file, (uint64_t)size, 0, "", 0)); \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FALLOCATE(name, offset_t) \
    int name(int file, int mode, offset_t offset, offset_t size) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, mode, offset, size), result == 0 && mode == 0, \
             note(ALLOCATE, file, (uint64_t)offset, (uint64_t)size, "", 0)); \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define POSIX_FALLOCATE(name, offset_t) \
    int name(int file, offset_t offset, offset_t size) { \
        REAL(name); \
        STEP(is_tracked(file), real(file, offset, size), result == 0, \
             note(ALLOCATE, file, (uint64_t)offset, (uint64_t)size, "", 0)); \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

int fsync(int file) {
    REAL(fsync);
    STEP(is_tracked(file), real(file), result == 0, note(SYNC, file, 0, 0, "", 0));
}

int fdatasync(int file) {
    REAL(fdatasync);
    STEP(is_tracked(file), real(file), result == 0, note(SYNC, file, 0, 0, "", 0));
}

int rename(const char *source, const char *target) {
    REAL(rename);
    STEP(is_below(source), real(source, target), result == 0, note_two(source, target));
}

int renameat(int from, const char *source, int to, const char *target) {
    REAL(renameat);
    STEP(is_below(source), real(from, source, to, target), result == 0, note_two(source, target));
}

int unlink(const char *path) {
    REAL(unlink);
    STEP(is_below(path), real(path), result == 0, note(UNLINK, 0, 0, 0, path, strlen(path)));
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    STEP(is_below(path), real(folder, path, flags), result == 0,
         note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, path, strlen(path)));
}

int rmdir(const char *path) {
    REAL(rmdir);
    STEP(is_below(path), real(path), result == 0, note(RMDIR, 0, 0, 0, path, strlen(path)));
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    STEP(is_below(path), real(path, mode), result == 0, note(MKDIR, 0, 0, 0, path, strlen(path)));
}

int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(mkdirat);
    STEP(is_below(path), real(folder, path, mode), result == 0,
         note(MKDIR, 0, 0, 0, path, strlen(path)));
}

"""Exit codes of service processes; whoever starts them again reads them."""

OK, FAILED, CONFIG = 0, 1, 2
AGAIN = 75  # nothing is wrong, it wants to be started again; EX_TEMPFAIL of sysexits.h

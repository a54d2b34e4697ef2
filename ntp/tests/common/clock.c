/*
 * A clock of its own for the process that preloads this: the machine's is never touched.
 *
 * CLOCK_REALTIME = the machine's + CLOCK_OFFSET seconds + CLOCK_DRIFT ppm since the start + what was corrected.
 * Every correction is a line in CLOCK_LOG: "step SECONDS", "freq PPM" or "slew SECONDS FREQ_PPM STATUS MAXERROR_US".
 * With CLOCK_DENY set, every correction fails with EPERM, as without CAP_SYS_TIME.
 * The phase-locked loop is a first-order one with the kernel's time constant, continuous instead of each second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int (*real_gettime)(clockid_t, struct timespec *);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ready, status = STA_UNSYNC;
static double start, last, drift, freq, phase, tau = 16;
static long double shift;
static long maxerror = 16000000;

static double monotonic(void) {
    struct timespec t;
    real_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double number(const char *name) {
    const char *text = getenv(name);
    return text ? strtod(text, NULL) : 0;
}

static void advance(void) {
    if (!ready) {
        real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
        start = last = monotonic();
        shift = number("CLOCK_OFFSET");
        drift = number("CLOCK_DRIFT") * 1e-6;
        ready = 1;
    }
    double now = monotonic(), passed = now - last;
    double slewed = phase * (1 - exp(-passed / tau));
    last = now;
    phase -= slewed;
    shift += (drift + freq) * passed + slewed;
}

static void note(const char *format, double a, double b, int c, long d) {
    const char *path = getenv("CLOCK_LOG");
    char line[200];
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, format, a, b, c, d);
    if (write(fd, line, length) != length) _exit(99);
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t) {
    pthread_mutex_lock(&lock);
    advance();
    int result = real_gettime(id, t);
    if (result == 0 && id == CLOCK_REALTIME) {
        long double seconds = floorl(shift);
        t->tv_sec += (time_t)seconds;
        t->tv_nsec += (long)((shift - seconds) * 1e9L);
        if (t->tv_nsec >= 1000000000) t->tv_sec++, t->tv_nsec -= 1000000000;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int clock_settime(clockid_t id, const struct timespec *t) {
    struct timespec now;
    (void)id;
    if (getenv("CLOCK_DENY")) { errno = EPERM; return -1; }
    clock_gettime(CLOCK_REALTIME, &now);
    long double by = (t->tv_sec - now.tv_sec) + (t->tv_nsec - now.tv_nsec) / 1e9L;
    pthread_mutex_lock(&lock);
    shift += by;
    phase = 0;
    pthread_mutex_unlock(&lock);
    note("step %.6f\n", (double)by, 0, 0, 0);
    return 0;
}

int adjtimex(struct timex *t) {
    if (t->modes && getenv("CLOCK_DENY")) { errno = EPERM; return -1; }
    pthread_mutex_lock(&lock);
    advance();
    if (t->modes & ADJ_FREQUENCY) freq = t->freq / 65536e6;
    if (t->modes & ADJ_STATUS) status = t->status;
    if (t->modes & ADJ_MAXERROR) maxerror = t->maxerror;
    if (t->modes & ADJ_TIMECONST) tau = 4 << t->constant;
    if (t->modes & ADJ_OFFSET) phase = t->offset / (t->modes & ADJ_NANO || status & STA_NANO ? 1e9 : 1e6);
    if (t->modes & ADJ_OFFSET) note("slew %.9f %.3f %d %ld\n", phase, freq * 1e6, status, maxerror);
    else if (t->modes & ADJ_FREQUENCY) note("freq %.3f\n", freq * 1e6, 0, 0, 0);
    t->freq = (long)(freq * 65536e6);
    t->status = status;
    t->maxerror = maxerror;
    pthread_mutex_unlock(&lock);
    return status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

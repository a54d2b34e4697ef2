/*
 * A clock of its own for the process that preloads this: the machine's is never touched.
 *
 * CLOCK_REALTIME = the machine's + CLOCK_OFFSET seconds + CLOCK_DRIFT ppm since the start + what was corrected.
 * Every correction is a line in CLOCK_LOG: "step SECONDS", "freq PPM" or "slew SECONDS FREQ_PPM STATUS MAXERROR_US".
 * CLOCK_STATE is a file that always holds the clock's state as six doubles: monotonic time, shift in seconds then,
 * drift and frequency in s/s, phase left in seconds, the loop's time constant in seconds; so the true error can be
 * computed at any time.
 * With CLOCK_DENY set, every correction fails with EPERM, as without CAP_SYS_TIME.
 * With CLOCK_DEAF set, every correction is noted, granted, and not done, as some sandboxes do.
 * CLOCK_JUMP is a file that someone else who sets the clock makes: the seconds in it are added once, and it is removed.
 * CLOCK_RTC is what any hardware clock shows, in seconds since 1970; reading and setting one are the lines "rtc-read
 * SECONDS" and "rtc-set SECONDS".
 * The phase-locked loop is a first-order one with the kernel's time constant, continuous instead of each second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int (*real_gettime)(clockid_t, struct timespec *);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ready, status = STA_UNSYNC;
static double start, last, drift, freq, phase, tau = 16;
static long double shift;
static long maxerror = 16000000, tick = 10000;
static volatile double *state;

static double monotonic(void) {
    struct timespec t;
    real_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double number(const char *name) {
    const char *text = getenv(name);
    return text ? strtod(text, NULL) : 0;
}

static double jumped(void) {
    const char *path = getenv("CLOCK_JUMP");
    char text[32] = "";
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) <= 0) text[0] = 0;
    close(fd);
    unlink(path);
    return strtod(text, NULL);
}

static void advance(void) {
    if (!ready) {
        real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
        start = last = monotonic();
        shift = number("CLOCK_OFFSET");
        drift = number("CLOCK_DRIFT") * 1e-6;
        const char *path = getenv("CLOCK_STATE");
        int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
        if (fd >= 0 && ftruncate(fd, 48) == 0) {
            void *map = mmap(NULL, 48, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (map != MAP_FAILED) state = map;
        }
        ready = 1;
    }
    double now = monotonic(), passed = now - last;
    double slewed = phase * (1 - exp(-passed / tau));
    last = now;
    phase -= slewed;
    shift += (drift + freq + (tick - 10000) * 1e-4) * passed + slewed + jumped();
    if (state) {
        double now_state[6] = {last, (double)shift, drift, freq + (tick - 10000) * 1e-4, phase, tau};
        for (int i = 0; i < 6; i++) state[i] = now_state[i];
    }
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
    if (!getenv("CLOCK_DEAF")) shift += by, phase = 0;
    advance();
    pthread_mutex_unlock(&lock);
    note("step %.6f\n", (double)by, 0, 0, 0);
    return 0;
}

int adjtimex(struct timex *t) {
    if (t->modes && getenv("CLOCK_DENY")) { errno = EPERM; return -1; }
    pthread_mutex_lock(&lock);
    advance();
    if (t->modes & ADJ_SETOFFSET) {
        double by = t->time.tv_sec + t->time.tv_usec / (t->modes & ADJ_NANO ? 1e9 : 1e6);
        shift += by;
        note("step %.6f\n", by, 0, 0, 0);
    }
    if (t->modes & ADJ_TICK) tick = t->tick;
    if (t->modes & ADJ_FREQUENCY) freq = fmax(-500e-6, fmin(500e-6, t->freq / 65536e6));
    if (t->modes & ADJ_STATUS) status = t->status;
    if (t->modes & ADJ_MAXERROR) maxerror = t->maxerror;
    if (t->modes & ADJ_TIMECONST) tau = 4 << t->constant;
    if (t->modes & ADJ_OFFSET) phase = t->offset / (t->modes & ADJ_NANO || status & STA_NANO ? 1e9 : 1e6);
    if (getenv("CLOCK_DEAF")) phase = freq = 0;
    if (t->modes & ADJ_OFFSET) note("slew %.9f %.3f %d %ld\n", phase, freq * 1e6, status, maxerror);
    else if (t->modes & ADJ_FREQUENCY) note("freq %.3f\n", freq * 1e6, 0, 0, 0);
    advance();
    t->freq = (long)(freq * 65536e6);
    t->tick = tick;
    t->status = status;
    t->maxerror = maxerror;
    pthread_mutex_unlock(&lock);
    return status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

int settimeofday(const struct timeval *t, const struct timezone *zone) {
    struct timespec to = {t->tv_sec, t->tv_usec * 1000};
    (void)zone;
    return clock_settime(CLOCK_REALTIME, &to);
}

int clock_adjtime(clockid_t id, struct timex *t) {
    (void)id;
    return adjtimex(t);
}

int ntp_adjtime(struct timex *t) {
    return adjtimex(t);
}

int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/*
 * The kernel stamps packets with the machine's clock: its stamps of receipt are moved to ours, as they are handed over.
 * Those of sending, which would come by other ways, are refused.
 */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
    if (level == SOL_SOCKET && name == SO_TIMESTAMPING) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return real(fd, level, name, value, length);
}

static void move_stamps(struct msghdr *message) {
    pthread_mutex_lock(&lock);
    advance();
    double by = (double)shift;
    pthread_mutex_unlock(&lock);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET) continue;
        if (c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            long long ns = t.tv_nsec + (long long)((by - floor(by)) * 1e9);
            t.tv_sec += (time_t)floor(by) + ns / 1000000000;
            t.tv_nsec = ns % 1000000000;
            memcpy(CMSG_DATA(c), &t, sizeof t);
        } else if (c->cmsg_type == SO_TIMESTAMP) {
            struct timeval t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            long us = t.tv_usec + (long)((by - floor(by)) * 1e6);
            t.tv_sec += (time_t)floor(by) + us / 1000000;
            t.tv_usec = us % 1000000;
            memcpy(CMSG_DATA(c), &t, sizeof t);
        }
    }
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    static ssize_t (*real)(int, struct msghdr *, int);
    if (!real) real = dlsym(RTLD_NEXT, "recvmsg");
    ssize_t length = real(fd, message, flags);
    if (length >= 0) move_stamps(message);
    return length;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int most, int flags, struct timespec *timeout) {
    static int (*real)(int, struct mmsghdr *, unsigned int, int, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "recvmmsg");
    int count = real(fd, messages, most, flags, timeout);
    for (int i = 0; i < count; i++) move_stamps(&messages[i].msg_hdr);
    return count;
}

int ioctl(int fd, unsigned long request, ...) {
    static int (*real)(int, unsigned long, void *);
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (getenv("CLOCK_RTC") && request == RTC_RD_TIME) {
        time_t shown = (time_t)number("CLOCK_RTC");
        struct tm t;
        gmtime_r(&shown, &t);
        *(struct rtc_time *)argument = (struct rtc_time){t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon, t.tm_year, 0, 0, 0};
        note("rtc-read %.0f\n", (double)shown, 0, 0, 0);
        return 0;
    }
    if (getenv("CLOCK_RTC") && request == RTC_SET_TIME) {
        struct rtc_time *r = argument;
        struct tm t = {.tm_sec = r->tm_sec, .tm_min = r->tm_min, .tm_hour = r->tm_hour, .tm_mday = r->tm_mday, .tm_mon = r->tm_mon, .tm_year = r->tm_year};
        note("rtc-set %.0f\n", (double)timegm(&t), 0, 0, 0);
        return 0;
    }
    if (!real) real = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}

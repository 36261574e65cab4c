/* A clock for tests: the wall clock of one process, off from the machine's by what a small file says.
 * To be preloaded (LD_PRELOAD). TEST_CLOCK names the file: nanoseconds to add, as a signed 64-bit number of this machine. It is mapped, so
 * the offset can change while the process runs. Monotonic clocks stay as they are, as they do when somebody sets a machine's clock.
 * A wait until a moment of the wall clock ends at that moment of the test's clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
/* Moments of monotonic clocks count from the machine's start, and are less for thirty years. */
static const time_t WALL_SECONDS_MIN = 1000000000;

static const volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    close(file);
    offset = mapped;
}

static void shift(struct timespec *moment, int sign) {
    int64_t shifted = moment->tv_sec * SECOND + moment->tv_nsec + sign * (offset ? *offset : 0);
    moment->tv_sec = shifted / SECOND;
    moment->tv_nsec = shifted % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *moment) {
    long result = syscall(SYS_clock_gettime, clock, moment);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) shift(moment, 1);
    return (int)result;
}

int gettimeofday(struct timeval *restrict moment, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *moment = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *moment) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (moment) *moment = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec moment = *until;
    if (!wait) wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (moment.tv_sec >= WALL_SECONDS_MIN) shift(&moment, -1);
    return wait(condition, mutex, &moment);
}

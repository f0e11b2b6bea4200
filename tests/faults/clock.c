/* A wall clock that a test sets: LD_PRELOAD this, and put an offset in ms (int64) into the file TEST_CLOCK_FILE.
 * The monotonic clock stays what it is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_ms;

__attribute__((constructor)) static void open_clock(void)
{
    const char *path = getenv("TEST_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *found = mmap(NULL, sizeof *offset_ms, PROT_READ, MAP_SHARED, file, 0);
        if (found != MAP_FAILED) offset_ms = found;
        close(file);
    }
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int answer = (int)syscall(SYS_clock_gettime, id, at);
    if (answer == 0 && offset_ms && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = at->tv_nsec + (*offset_ms % 1000) * 1000000;
        at->tv_sec += *offset_ms / 1000 + (ns >= 1000000000) - (ns < 0);
        at->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    }
    return answer;
}

int gettimeofday(struct timeval *at, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* Faults between a program and its disk, or its clock: LD_PRELOAD this.
 *
 * FEDISTILL_FAULT_KILL_AT=N   the process is killed (-9) at the N-th of these instants: right after each
 *                             fsync, fdatasync and rename, and right before each fsync of a folder. A new
 *                             database gets its name by a system call that no library sees (renameat2);
 *                             what comes next is that its folder is made durable, so the instant before
 *                             that is the one right after the name.
 * FEDISTILL_FAULT_FULL=PATH   while PATH exists, no write to a regular file has room: ENOSPC.
 * FEDISTILL_FAULT_LATE=PATH   while PATH exists, what is written to a regular file has room, and its fsync or
 *                             fdatasync says that it had none, as where room is taken when data leaves memory
 *                             (ext4, NFS, quotas). All of it is there nevertheless.
 * FEDISTILL_FAULT_CLOCK=PATH  the wall clock is wrong by as many seconds as PATH says, if it exists; the
 *                             monotonic clock is let be, as where somebody sets the time.
 * FEDISTILL_FAULT_NO_LOCKS=1  no file can be locked as a whole, as on some network file systems.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long calls;

static void instant(const char *which) {
    const char *at = getenv("FEDISTILL_FAULT_KILL_AT");
    if (!at || __sync_add_and_fetch(&calls, 1) != atol(at)) return;
    dprintf(STDERR_FILENO, "killed %s\n", which);
    kill(getpid(), SIGKILL);
}

static int lacks(const char *fault, int fd) {
    const char *path = getenv(fault);
    struct stat about;
    if (!path || access(path, F_OK) != 0) return 0;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

static int full(int fd) { return lacks("FEDISTILL_FAULT_FULL", fd); }

static int late(int fd) { return lacks("FEDISTILL_FAULT_LATE", fd); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_folder(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISDIR(about.st_mode);
}

int fsync(int fd) {
    if (is_folder(fd)) instant("before fsync of a folder");
    int done = REAL(fsync)(fd);
    instant("after fsync");
    return late(fd) ? -1 : done;
}

int fdatasync(int fd) {
    int done = REAL(fdatasync)(fd);
    instant("after fdatasync");
    return late(fd) ? -1 : done;
}

int rename(const char *from, const char *to) {
    int done = REAL(rename)(from, to);
    instant("after rename");
    return done;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return full(fd) ? -1 : REAL(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return full(fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return full(fd) ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}

int ftruncate64(int fd, off64_t length) {
    struct stat about;
    int grows = fstat(fd, &about) == 0 && about.st_size < length;
    return grows && full(fd) ? -1 : REAL(ftruncate64)(fd, length);
}

static long wrong_by(void) {
    const char *path = getenv("FEDISTILL_FAULT_CLOCK");
    char text[32] = {0};
    int fd = path ? open(path, O_RDONLY) : -1;
    if (fd < 0) return 0;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    return count > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = REAL(clock_gettime)(clock, now);
    if (done == 0 && clock == CLOCK_REALTIME) now->tv_sec += wrong_by();
    return done;
}

int flock(int fd, int how) {
    if (!getenv("FEDISTILL_FAULT_NO_LOCKS")) return REAL(flock)(fd, how);
    errno = EOPNOTSUPP;
    return -1;
}

/* A disk for tests: notes what a power cut would leave of one directory, as its process works in it.
 * To be preloaded (LD_PRELOAD). TEST_DISK names the directory, TEST_DISK_NOTES another one on the same file system, with
 *   notes    a line for each sync that succeeded: of a file its length before the sync (and its bytes, if they are few), of a directory the
 *            names in it. Lines end with " ."; one without was cut short by the end of the process.
 *   beside/  a second name for each file that lost its name since the last sync of its directory: <id of the directory>/<id of the file>.
 * Whatever is on the disk and not in the notes is not durable. An id is the inode and the time of its birth, since inodes are used again.
 *   failing  is made by a test: while it is there, no sync of a file whose name ends in .log (a WAL) succeeds.
 * With TEST_DISK_LIES the disk lies about files whose names end so: it says that they are synced, and nothing is.
 * Not seen are changes through a mapping, and files opened to be synchronous; sync_file_range makes nothing durable. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CONTENT_BYTES_MAX = 4096, ID_BYTES = 64 };
static const unsigned WANTED = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_BTIME;

static const char *root, *beside, *failing, *lies;
static int notes = -1;
/* Held while names change and while they are listed, so that a list is the names of one moment. */
static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("TEST_DISK_NOTES");
    char *path = NULL, *kept = NULL, *trouble = NULL;
    root = getenv("TEST_DISK");
    lies = getenv("TEST_DISK_LIES");
    if (!root || !place || asprintf(&path, "%s/notes", place) < 0 || asprintf(&kept, "%s/beside", place) < 0) abort();
    if (asprintf(&trouble, "%s/failing", place) < 0) abort();
    beside = kept;
    failing = trouble;
    notes = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    /* Before this life's first line: the last one of the former may have no end. */
    if (notes < 0 || write(notes, "\n", 1) != 1) abort();
    free(path);
}

static void print_id(char id[ID_BYTES], const struct statx *file) {
    snprintf(id, ID_BYTES, "%llu.%lld.%u", (unsigned long long)file->stx_ino, (long long)file->stx_btime.tv_sec, file->stx_btime.tv_nsec);
}

/* Whether a file is the directory or below it; its path. */
static bool is_watched(int fd, char path[PATH_MAX]) {
    char link[64];
    size_t bytes = strlen(root);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return false;
    path[length] = 0;
    return strncmp(path, root, bytes) == 0 && (path[bytes] == '/' || path[bytes] == 0);
}

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static void note(char *line, size_t bytes) {
    /* One call, so that lines of several threads do not mix. */
    if (write(notes, line, bytes) != (ssize_t)bytes) abort();
    free(line);
}

static int sync_file(int fd, const struct statx *file, long call) {
    char id[ID_BYTES], link[64], *line;
    unsigned char content[CONTENT_BYTES_MAX];
    size_t bytes;
    FILE *out = open_memstream(&line, &bytes);
    print_id(id, file);
    fprintf(out, "file %s %llu ", id, (unsigned long long)file->stx_size);
    if (file->stx_size <= CONTENT_BYTES_MAX) {
        /* By another descriptor: this one may be for writing alone. */
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int reader = open(link, O_RDONLY | O_CLOEXEC);
        ssize_t length = reader < 0 ? -1 : pread(reader, content, file->stx_size, 0);
        if (length != (ssize_t)file->stx_size) abort();
        close(reader);
        for (ssize_t at = 0; at < length; at++) fprintf(out, "%02x", content[at]);
    } else {
        fputc('-', out);
    }
    fputs(" .\n", out);
    fclose(out);
    int result = (int)syscall(call, fd);
    if (result == 0) note(line, bytes);
    return result;
}

/* Files that lost their name in a directory have lost it for good once that is synced. */
static void drop_kept(const char *id) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", beside, id);
    DIR *kept = opendir(path);
    if (!kept) return;
    for (struct dirent *entry; (entry = readdir(kept));) {
        if (entry->d_name[0] != '.') syscall(SYS_unlinkat, dirfd(kept), entry->d_name, 0);
    }
    closedir(kept);
}

static int sync_directory(int fd, const struct statx *file, long call) {
    char id[ID_BYTES], *line;
    size_t bytes;
    FILE *out = open_memstream(&line, &bytes);
    pthread_mutex_lock(&names);
    DIR *directory = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) abort();
    print_id(id, file);
    fprintf(out, "directory %s", id);
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct statx named;
        char named_id[ID_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        /* The notes have no way to tell such names; nobody uses them. */
        if (strpbrk(entry->d_name, " \n")) abort();
        if (statx(fd, entry->d_name, AT_SYMLINK_NOFOLLOW, WANTED, &named) != 0) continue;
        print_id(named_id, &named);
        fprintf(out, " %s=%s", named_id, entry->d_name);
    }
    closedir(directory);
    fputs(" .\n", out);
    fclose(out);
    int result = (int)syscall(call, fd);
    if (result == 0) {
        note(line, bytes);
        drop_kept(id);
    }
    pthread_mutex_unlock(&names);
    return result;
}

static int sync_any(int fd, long call) {
    struct statx file;
    char path[PATH_MAX];
    if (notes < 0 || !is_watched(fd, path) || statx(fd, "", AT_EMPTY_PATH, WANTED, &file) != 0) return (int)syscall(call, fd);
    if (S_ISDIR(file.stx_mode)) return sync_directory(fd, &file, call);
    if (ends_with(path, ".log") && access(failing, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return lies && ends_with(path, lies) ? 0 : sync_file(fd, &file, call);
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

/* Gives a file that is about to lose its name another one. */
static void keep(int at, const char *path) {
    struct statx file, parent;
    char copy[PATH_MAX], place[PATH_MAX], real[PATH_MAX], file_id[ID_BYTES], parent_id[ID_BYTES];
    if (notes < 0 || statx(at, path, AT_SYMLINK_NOFOLLOW, WANTED, &file) != 0 || !S_ISREG(file.stx_mode)) return;
    snprintf(copy, sizeof copy, "%s", path);
    char *slash = strrchr(copy, '/');
    if (slash) slash[slash == copy] = 0;
    int directory = openat(at, slash ? copy : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;
    if (is_watched(directory, real) && statx(directory, "", AT_EMPTY_PATH, WANTED, &parent) == 0) {
        print_id(file_id, &file);
        print_id(parent_id, &parent);
        snprintf(place, sizeof place, "%s/%s", beside, parent_id);
        if (mkdir(place, 0700) != 0 && errno != EEXIST) abort();
        snprintf(place, sizeof place, "%s/%s/%s", beside, parent_id, file_id);
        /* A test may mount another file system over the directory; what is removed there stays so. */
        if (linkat(at, path, AT_FDCWD, place, 0) != 0 && errno != EEXIST && errno != EXDEV) abort();
    }
    close(directory);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    pthread_mutex_lock(&names);
    keep(to_at, to);
    int result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    pthread_mutex_unlock(&names);
    return result;
}

int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags) {
    pthread_mutex_lock(&names);
    if (!(flags & AT_REMOVEDIR)) keep(at, path);
    int result = (int)syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_unlock(&names);
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

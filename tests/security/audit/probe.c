// What a process in a container can see, open, write, call and send to, one line each: kind, subject, answer.
// Nothing is changed: files are opened and closed, calls are made without arguments, each by a child of its own that
// a watchdog ends. Arguments: `KIND=NUMBER` of namespaces of the host.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LAST_CALL = 480, WATCHDOG_MILLIS = 600, LAST_FAMILY = 46, PATH_BYTES = 4096, MAX_DEPTH = 24 };

static const char *name_of(int error) {
    const char *name = strerrorname_np(error);
    return name ? name : "?";
}

static void tell(const char *kind, const char *answer, const char *format, ...) {
    va_list arguments;
    printf("%s\t", kind);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\t%s\n", answer);
}

static const char *answer_of(long result) { return result < 0 ? name_of(errno) : "ok"; }

// What `attempt` comes to, made by a child in a process group of its own.
static void try_it(char *answer, size_t size, long (*attempt)(const long *), const long *values) {
    int told[2];
    if (pipe2(told, O_CLOEXEC | O_NONBLOCK)) exit(3);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
        long result = attempt(values);
        int error = result < 0 ? errno : 0;
        if (write(told[1], &error, sizeof error) < 0) _exit(2);
        _exit(0);
    }
    setpgid(child, child);
    int status = 0, waited = 0;
    pid_t ended = 0;
    while ((ended = waitpid(child, &status, WNOHANG)) == 0 && waited < WATCHDOG_MILLIS * 10) {
        usleep(waited < 100 ? 100 : 2000);
        waited += waited < 100 ? 1 : 20;
    }
    int error = -1;
    int has_answer = read(told[0], &error, sizeof error) == sizeof error;
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
    if (ended == 0) waitpid(child, &status, 0);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    close(told[0]);
    close(told[1]);
    if (has_answer) snprintf(answer, size, "%s", error ? name_of(error) : "ok");
    else if (ended == 0) snprintf(answer, size, "waits");
    else if (WIFSIGNALED(status)) snprintf(answer, size, "SIG%s", sigabbrev_np(WTERMSIG(status)));
    else snprintf(answer, size, "ends");
}

static long call_it(const long *values) {
    return syscall(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
}

static void call(const char *kind, const char *subject, long number, long a, long b, long c, long d, long e) {
    char answer[64];
    const long values[] = {number, a, b, c, d, e, 0};
    try_it(answer, sizeof answer, call_it, values);
    tell(kind, answer, "%s", subject);
}

static void calls(void) {
    for (long number = 0; number <= LAST_CALL; number++) {
        char subject[16];
        snprintf(subject, sizeof subject, "%ld", number);
        // That would wait for every disk of the host.
        if (number == SYS_sync || number == SYS_syncfs) continue;
        call("call", subject, number, 0, 0, 0, 0, 0);
    }
}

#ifdef __x86_64__
static long i386_getpid(const long *values) {
    long result;
    (void)values;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    if (result < 0) { errno = (int)-result; return -1; }
    return 0;
}
#endif

static void further_calls(void) {
    static const struct { const char *name; long flag; } spaces[] = {
        {"CLONE_NEWNS", CLONE_NEWNS},   {"CLONE_NEWUTS", CLONE_NEWUTS},   {"CLONE_NEWIPC", CLONE_NEWIPC},
        {"CLONE_NEWUSER", CLONE_NEWUSER}, {"CLONE_NEWPID", CLONE_NEWPID}, {"CLONE_NEWNET", CLONE_NEWNET},
        {"CLONE_NEWCGROUP", CLONE_NEWCGROUP}, {"CLONE_NEWTIME", 0x80},
    };
    char subject[64];
    for (size_t place = 0; place < sizeof spaces / sizeof *spaces; place++) {
        snprintf(subject, sizeof subject, "unshare %s", spaces[place].name);
        call("call", subject, SYS_unshare, spaces[place].flag, 0, 0, 0, 0);
        snprintf(subject, sizeof subject, "clone %s", spaces[place].name);
        call("call", subject, SYS_clone, spaces[place].flag | SIGCHLD, 0, 0, 0, 0);
    }
    call("call", "mount tmpfs", SYS_mount, (long)"none", (long)"/tmp", (long)"tmpfs", 0, 0);
    call("call", "mount proc", SYS_mount, (long)"none", (long)"/tmp", (long)"proc", 0, 0);
    call("call", "remount / ro", SYS_mount, 0, (long)"/", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0);
    call("call", "umount /proc", SYS_umount2, (long)"/proc", MNT_DETACH, 0, 0, 0);
    call("call", "fsopen tmpfs", 430, (long)"tmpfs", 0, 0, 0, 0);
    call("call", "mknod null", SYS_mknodat, AT_FDCWD, (long)"/tmp/audit-null", S_IFCHR | 0600, makedev(1, 3), 0);
    call("call", "mknod disk", SYS_mknodat, AT_FDCWD, (long)"/tmp/audit-disk", S_IFBLK | 0600, makedev(7, 0), 0);
    call("call", "chroot /tmp", SYS_chroot, (long)"/tmp", 0, 0, 0, 0);
    call("call", "sethostname", SYS_sethostname, (long)"audit", 5, 0, 0, 0);
    call("call", "settimeofday", SYS_settimeofday, 0, 0, 0, 0, 0);
    call("call", "personality READ_IMPLIES_EXEC", SYS_personality, 0x0400000, 0, 0, 0, 0);
    call("call", "personality PER_LINUX32", SYS_personality, 8, 0, 0, 0, 0);
    call("call", "setpriority -20", SYS_setpriority, 0, 0, -20, 0, 0);
    call("call", "syslog read", SYS_syslog, 3, 0, 0, 0, 0);
    call("call", "syslog size", SYS_syslog, 10, 0, 0, 0, 0);
    call("call", "ptrace TRACEME", SYS_ptrace, PTRACE_TRACEME, 0, 0, 0, 0);
    call("call", "ptrace ATTACH parent", SYS_ptrace, PTRACE_SEIZE, getpid(), 0, 0, 0);
    call("call", "kill 1", SYS_kill, 1, 0, 0, 0, 0);
    call("call", "capset inheritable", SYS_capset, 0, 0, 0, 0, 0);
    call("key", "add to process", SYS_add_key, (long)"user", (long)"audit", (long)"x", 1, -2);
    call("key", "add to session", SYS_add_key, (long)"user", (long)"audit", (long)"x", 1, -3);
    call("key", "request", SYS_request_key, (long)"user", (long)"audit", 0, 0, 0);
    call("key", "id of session", SYS_keyctl, 0, -3, 0, 0, 0);
#ifdef __x86_64__
    char answer[64];
    const long none[] = {0};
    try_it(answer, sizeof answer, i386_getpid, none);
    tell("call", answer, "getpid of 32 bits");
    call("call", "getpid of x32", 0x40000000 | SYS_getpid, 0, 0, 0, 0, 0);
#endif
}

static long socket_it(const long *values) { return socket((int)values[0], (int)values[1], (int)values[2]); }

static void sockets(void) {
    static const struct { const char *name; int type; } types[] = {
        {"STREAM", SOCK_STREAM}, {"DGRAM", SOCK_DGRAM}, {"RAW", SOCK_RAW}, {"SEQPACKET", SOCK_SEQPACKET},
    };
    char answer[64];
    for (int family = 0; family <= LAST_FAMILY; family++) {
        for (size_t place = 0; place < 4; place++) {
            const long values[] = {family, types[place].type, 0};
            try_it(answer, sizeof answer, socket_it, values);
            if (strcmp(answer, "EAFNOSUPPORT") && strcmp(answer, "ESOCKTNOSUPPORT"))
                tell("socket", answer, "%d %s", family, types[place].name);
        }
    }
    for (int protocol = 0; protocol < 32; protocol++) {
        const long values[] = {AF_NETLINK, SOCK_RAW, protocol};
        try_it(answer, sizeof answer, socket_it, values);
        if (strcmp(answer, "EPROTONOSUPPORT")) tell("netlink", answer, "%d", protocol);
    }
    const long icmp[] = {AF_INET, SOCK_RAW, 1}, packet[] = {AF_PACKET, SOCK_RAW, 0x0300};
    try_it(answer, sizeof answer, socket_it, icmp);
    tell("socket", answer, "raw ICMP");
    try_it(answer, sizeof answer, socket_it, packet);
    tell("socket", answer, "raw Ethernet");
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *one = names; one && one->if_index; one++) tell("interface", "seen", "%s", one->if_name);
}

static void lines_of(const char *kind, const char *path, const char *wanted) {
    FILE *file = fopen(path, "re");
    char line[PATH_BYTES];
    if (!file) { tell(kind, name_of(errno), "%s", path); return; }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ':');
        for (char *tab = line; (tab = strchr(tab, '\t'));) *tab = ' ';
        if (!wanted) tell(kind, "seen", "%s", line);
        else if (value) {
            *value++ = 0;
            char padded[64];
            snprintf(padded, sizeof padded, " %s ", line);
            if (strstr(wanted, padded)) tell(kind, value + strspn(value, " "), "%s", line);
        }
    }
    fclose(file);
}

static void process(int count, char **arguments) {
    lines_of("status", "/proc/self/status", " Uid Gid Groups NoNewPrivs Seccomp Seccomp_filters CapInh CapPrm CapEff CapBnd CapAmb ");
    lines_of("uid map", "/proc/self/uid_map", NULL);
    lines_of("key", "/proc/keys", NULL);
    lines_of("mount", "/proc/self/mountinfo", NULL);
    lines_of("unix socket", "/proc/net/unix", NULL);
    for (int number = 0; number < 1024; number++) {
        char path[64], target[PATH_BYTES];
        snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        target[strcspn(target, ":")] = 0;
        tell("descriptor", target, "%d", number);
    }
    // The kernel gives the first of each kind, which is the host's, a number of its own. Source: linux/proc_ns.h.
    static const struct { const char *name; unsigned long first; } kinds[] = {
        {"ipc", 0xEFFFFFFF}, {"uts", 0xEFFFFFFE}, {"user", 0xEFFFFFFD}, {"pid", 0xEFFFFFFC},
        {"cgroup", 0xEFFFFFFB}, {"time", 0xEFFFFFFA}, {"mnt", 0}, {"net", 0},
    };
    for (size_t place = 0; place < sizeof kinds / sizeof *kinds; place++) {
        char path[64];
        struct stat status;
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[place].name);
        if (stat(path, &status)) { tell("namespace", name_of(errno), "%s", kinds[place].name); continue; }
        unsigned long host = kinds[place].first;
        for (int number = 1; number < count; number++) {
            size_t length = strlen(kinds[place].name);
            if (!strncmp(arguments[number], kinds[place].name, length) && arguments[number][length] == '=')
                host = strtoul(arguments[number] + length + 1, NULL, 10);
        }
        tell("namespace", status.st_ino == host ? "the host's" : "its own", "%s", kinds[place].name);
    }
}

static int is_number(const char *text) { return text[strspn(text, "0123456789")] == 0; }

static const char *opened(const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    const char *answer = answer_of(fd);
    if (fd >= 0 && (flags & O_ACCMODE) == O_RDONLY) {
        // A mask is /dev/null in a file's place. What has no bytes at this moment may have some at the next.
        char byte;
        struct stat status;
        if (read(fd, &byte, 1) < 0) answer = name_of(errno);
        else if (!fstat(fd, &status) && S_ISCHR(status.st_mode)) answer = "masked";
    }
    if (fd >= 0) close(fd);
    return answer;
}

// Files that can be written, below a directory; others are passed over. With `reads` those of the first level that
// can be read too. Links are not followed.
static void walk(const char *directory, int depth, int reads) {
    DIR *entries = depth < MAX_DEPTH ? opendir(directory) : NULL;
    if (!entries) {
        if (depth <= 1) tell("list", depth < MAX_DEPTH ? name_of(errno) : "deep", "%s", directory);
        return;
    }
    int count = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_BYTES];
        struct stat status;
        if (entry->d_name[0] == '.' && (!entry->d_name[1] || !strcmp(entry->d_name, ".."))) continue;
        count++;
        if (!strcmp(directory, "/proc") && (is_number(entry->d_name) || !strcmp(entry->d_name, "self") ||
                                            !strcmp(entry->d_name, "thread-self")))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path) continue;
        if (lstat(path, &status) || S_ISLNK(status.st_mode)) continue;
        if (S_ISDIR(status.st_mode)) {
            // Whether something can be made in it; nothing is.
            if (!access(path, W_OK)) tell("write", "ok", "%s/", path);
            walk(path, depth + 1, reads);
        } else {
            const char *answer = opened(path, O_WRONLY);
            if (!strcmp(answer, "ok")) tell("write", answer, "%s", path);
            if (reads && depth == 0) tell("read", opened(path, O_RDONLY), "%s", path);
        }
    }
    if (depth == 1 && count == 0) tell("list", "empty", "%s", directory);
    closedir(entries);
}

static void devices(const char *directory) {
    DIR *entries = opendir(directory);
    if (!entries) return;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_BYTES], answer[128];
        struct stat status;
        if (entry->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path) continue;
        if (lstat(path, &status)) continue;
        if (S_ISDIR(status.st_mode)) {
            tell("device", access(path, W_OK) ? "directory" : "directory, writable", "%s", path);
            devices(path);
        } else if (S_ISLNK(status.st_mode)) {
            char target[PATH_BYTES];
            ssize_t length = readlink(path, target, sizeof target - 1);
            target[length < 0 ? 0 : length] = 0;
            tell("device", target, "%s", path);
        } else {
            const char *reads = name_of(0), *writes;
            int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
            reads = answer_of(fd);
            if (fd >= 0) close(fd);
            writes = opened(path, O_WRONLY);
            snprintf(answer, sizeof answer, "%c %u:%u read %s write %s", S_ISCHR(status.st_mode) ? 'c' : S_ISBLK(status.st_mode) ? 'b' : '-',
                     major(status.st_rdev), minor(status.st_rdev), reads, writes);
            tell("device", answer, "%s", path);
        }
    }
    closedir(entries);
}

static void others(void) {
    DIR *entries = opendir("/proc");
    int count = 0;
    char subject[64];
    for (struct dirent *entry; entries && (entry = readdir(entries));) count += is_number(entry->d_name);
    if (entries) closedir(entries);
    snprintf(subject, sizeof subject, "%d", count);
    tell("processes", subject, "seen");
    // Files of the first process that say something of, or lead to, the host.
    static const char *const names[] = {"exe", "root/", "cwd/", "mem", "environ", "maps", "stack", "syscall", "wchan",
                                        "oom_score_adj", "coredump_filter", "timens_offsets", "setgroups", "uid_map",
                                        "gid_map", "loginuid", "attr/current", "attr/exec", "sched", "clear_refs", "pagemap", "io"};
    for (size_t place = 0; place < sizeof names / sizeof *names; place++) {
        snprintf(subject, sizeof subject, "/proc/1/%s", names[place]);
        tell("first process", opened(subject, O_RDONLY), "read %s", names[place]);
        tell("first process", opened(subject, O_WRONLY), "write %s", names[place]);
    }
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    mkdir("/tmp", 01777);
    process(count, arguments);
    others();
    devices("/dev");
    walk("/proc", 0, 1);
    walk("/sys", 0, 0);
    sockets();
    further_calls();
    calls();
    tell("end", "ok", "audit");
    return fflush(stdout) ? 1 : 0;
}

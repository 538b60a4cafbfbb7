//! The system calls of a job: what a JVM, Python and native libraries use, and nothing that reaches beyond a process's
//! own rights: no new namespaces, mounts, tracing, keys, kernel programs, modules, raw sockets or asynchronous rings.

use serde_json::{Value, json};

/// The profile, in the form of the OCI runtime specification. What is not allowed gives EPERM; the runtime gives ENOSYS
/// for calls newer than the list, so that C libraries fall back to what they know.
pub fn profile() -> Value {
    let mut calls = vec![
        allow(ALLOWED, Vec::new()),
        // Threads and processes, but no namespaces: none of the CLONE_NEW flags.
        allow(&["clone"], vec![masked(CLONE_FLAGS_ARGUMENT, CLONE_NEW, 0)]),
        // Its flags are in memory, where no filter sees them; without it C libraries use `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        allow(&["socket"], vec![equal(0, AF_UNIX)]),
        // Which interfaces there are, the one question that C libraries and JVMs ask the kernel by messages.
        allow(&["socket"], vec![equal(0, AF_NETLINK), equal(2, NETLINK_ROUTE)]),
        // The execution domains of every day: Linux, and asking.
        allow(&["personality"], vec![equal(0, 0)]),
        allow(&["personality"], vec![equal(0, 0xffff_ffff)]),
    ];
    for family in [AF_INET, AF_INET6] {
        for kind in [SOCK_STREAM, SOCK_DGRAM] {
            calls.push(allow(&["socket"], vec![equal(0, family), masked(1, SOCK_TYPE_MASK, kind)]));
        }
    }
    // Named pipes, sockets and plain files, but no devices.
    for kind in [S_IFIFO, S_IFREG, S_IFSOCK, 0] {
        calls.push(allow(&["mknod"], vec![masked(1, S_IFMT, kind)]));
        calls.push(allow(&["mknodat"], vec![masked(2, S_IFMT, kind)]));
    }
    // Any process or group, but not "all": a positive number, or a negative one with any zero among its lower bits.
    calls.push(allow(&["kill"], vec![masked(0, SIGN, 0)]));
    for bit in 0..31 {
        calls.push(allow(&["kill"], vec![masked(0, SIGN | 1 << bit, SIGN)]));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": [ARCHITECTURE],
        "syscalls": calls,
    })
}

fn allow(names: &[&str], arguments: Vec<Value>) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": arguments })
}

fn equal(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "SCMP_ARCH_AARCH64";

const CLONE_FLAGS_ARGUMENT: u32 = 0;
/// NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NEW: u64 = 0x7E02_0080;
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const NETLINK_ROUTE: u64 = 0;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;
const SOCK_TYPE_MASK: u64 = 0xf;
const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;
const S_IFREG: u64 = 0o100_000;
const S_IFSOCK: u64 = 0o140_000;
const SIGN: u64 = 1 << 31;

#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    // Files.
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat",
    "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync",
    "ftruncate", "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1",
    "inotify_rm_watch", "lchown", "lgetxattr", "link", "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek",
    "lsetxattr", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "removexattr", "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "setxattr", "splice", "stat", "statfs", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes",
    "vmsplice", "write", "writev",
    // Descriptors that wait or count.
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "ioctl", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select", "signalfd", "signalfd4", "timerfd_create",
    "timerfd_gettime", "timerfd_settime",
    // Memory.
    "brk", "get_mempolicy", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap",
    "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
    // Processes, threads, identities; what needs a capability still needs it.
    "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
    "futex_wait", "futex_waitv", "futex_wake", "get_robust_list", "getcpu", "getegid", "geteuid", "getgid", "getgroups",
    "getitimer", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getresgid", "getresuid", "getrlimit",
    "getrusage", "getsid", "gettid", "getuid", "ioprio_get", "ioprio_set", "pause", "pidfd_open", "pidfd_send_signal",
    "prctl", "prlimit64", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "set_robust_list", "set_tid_address", "setfsgid", "setfsuid",
    "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid",
    "setrlimit", "setsid", "setuid", "sigaltstack", "tgkill", "tkill", "vfork", "wait4", "waitid",
    // Sockets, once made.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg",
    "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    // Time, the machine, randomness.
    "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getrandom", "gettimeofday", "nanosleep", "sysinfo",
    "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times", "uname",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_out_is_on_the_list() {
        for call in [
            "unshare",
            "setns",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "io_uring_enter",
            "init_module",
            "finit_module",
            "kexec_load",
            "reboot",
            "settimeofday",
            "clock_settime",
            "sethostname",
            "open_by_handle_at",
            "name_to_handle_at",
            "swapon",
            "quotactl",
            "acct",
            "clone",
            "clone3",
            "socket",
            "mknod",
            "kill",
            "personality",
            "fsopen",
            "fsmount",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "kcmp",
            "pidfd_getfd",
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
    }
}

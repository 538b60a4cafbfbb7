"""A hostile job: tries each way out of its sandbox and prints what came of it, one JSON object a line.

The test reads the lines; the job itself judges nothing.
"""
import ctypes
import json
import os
import platform
import socket
import struct
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)


def report(name, outcome, detail=""):
    print("ESCAPE " + json.dumps({"name": name, "outcome": outcome, "detail": str(detail)[:20000]}), flush=True)


def attempt(name, act):
    """`got`: the act went through; `refused`: the system said no."""
    try:
        report(name, "got", act())
    except (OSError, PermissionError, subprocess.SubprocessError, ValueError) as cause:
        report(name, "refused", cause)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path, limit=2000):
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def syscall(number, *arguments):
    return check(libc.syscall(ctypes.c_long(number), *arguments))


def connect(host, port):
    with socket.create_connection((host, port), timeout=2):
        return "connected"


def connect_unix(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(2)
        stream.connect(path)
        return "connected"


def raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


def packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()
    return "opened"


def main():
    secrets = sys.argv[1:]

    # What it is.
    status = dict(line.split(":\t", 1) for line in read("/proc/self/status", 8192).splitlines() if ":\t" in line)
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups"):
        report("status." + field, "is", status.get(field, "absent"))
    report("uid_map", "is", " ".join(read("/proc/self/uid_map").split()))
    report("gid_map", "is", " ".join(read("/proc/self/gid_map").split()))
    report("namespaces", "is", json.dumps({name: os.readlink("/proc/self/ns/" + name) for name in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")}))
    report("mounts", "is", json.dumps([line.split()[4:6] + [line.split(" - ")[1].split()[0]] for line in read("/proc/self/mountinfo", 100000).splitlines()]))
    report("interfaces", "is", json.dumps(sorted(name for _, name in socket.if_nameindex())))
    report("routes", "is", json.dumps(read("/proc/net/route").splitlines()[1:]))
    report("processes", "is", json.dumps(sorted(read("/proc/%s/cmdline" % pid).split("\0")[0] for pid in os.listdir("/proc") if pid.isdigit())))
    report("environment", "is", json.dumps(dict(os.environ)))
    report("hostname", "is", platform.node())
    report("fds", "is", json.dumps(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))))

    # The host's files.
    for path in ["/etc/shadow", "/etc/ssh", "/root", "/home", "/var/lib", "/var/run/casemate", "/run/casemate", "/opt/casemate", "/boot", "/sys/kernel/debug", "/sys/firmware", "/proc/kcore", "/proc/kallsyms", "/dev/mem", "/dev/kvm", "/dev/loop-control", "/dev/fuse"] + secrets:
        attempt("read " + path, lambda path=path: os.listdir(path) if os.path.isdir(path) else read(path) or "empty")
    for path in ["/usr/bin/casemate-was-here", "/opt/spark/jars/casemate-was-here", "/etc/casemate-was-here", "/casemate-was-here", "/conf/casemate-was-here", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/fs/cgroup/casemate-was-here"]:
        attempt("write " + path, lambda path=path: open(path, "w").write("x"))

    # The host's and the platform's network.
    for host, port in [("169.254.169.254", 80), ("10.0.0.1", 80), ("1.1.1.1", 53), ("8.8.8.8", 443)]:
        attempt("connect %s:%d" % (host, port), lambda host=host, port=port: connect(host, port))
    for port in json.loads(os.environ.get("ESCAPE_PORTS", "[]")) or [22, 80, 443, 8080, 8480, 8490]:
        attempt("connect 127.0.0.1:%d" % port, lambda port=port: connect("127.0.0.1", port))
    for path in ["/run/casemate/warden.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "\0casemate"]:
        attempt("unix " + path.replace("\0", "@"), lambda path=path: connect_unix(path))
    attempt("raw socket", raw_socket)
    attempt("packet socket", packet_socket)

    # The kernel's ways out (x86_64 numbers).
    attempt("mount", lambda: check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
    attempt("umount /proc", lambda: check(libc.umount2(b"/proc", 0)))
    attempt("unshare user", lambda: check(libc.unshare(0x10000000)))
    attempt("unshare mount", lambda: check(libc.unshare(0x00020000)))
    attempt("unshare net", lambda: check(libc.unshare(0x40000000)))
    attempt("setns", lambda: check(libc.setns(os.open("/proc/1/ns/net", os.O_RDONLY), 0)))
    attempt("chroot", lambda: check(libc.chroot(b"/tmp")))
    attempt("pivot_root", lambda: syscall(155, b"/tmp", b"/tmp"))
    attempt("ptrace attach 1", lambda: check(libc.ptrace(16, 1, 0, 0)))
    attempt("process_vm_readv", lambda: syscall(310, 1, None, 0, None, 0, 0))
    attempt("kill every process", lambda: os.kill(-1, 0))
    attempt("keyctl", lambda: syscall(250, 0, -3, 1, 0, 0))
    attempt("add_key", lambda: syscall(248, b"user", b"x", b"x", 1, -3))
    attempt("bpf", lambda: syscall(321, 0, None, 0))
    attempt("perf_event_open", lambda: syscall(298, None, 0, -1, -1, 0))
    attempt("userfaultfd", lambda: syscall(323, 0))
    attempt("io_uring_setup", lambda: syscall(425, 1, None))
    attempt("init_module", lambda: syscall(175, None, 0, b""))
    attempt("kexec_load", lambda: syscall(246, 0, 0, None, 0))
    attempt("reboot", lambda: syscall(169, 0xFEE1DEAD, 672274793, 0, None))
    attempt("settimeofday", lambda: syscall(164, struct.pack("qq", 0, 0), None))
    attempt("sethostname", lambda: check(libc.sethostname(b"x", 1)))
    attempt("open_by_handle_at", lambda: syscall(304, -100, None, 0))
    attempt("mknod", lambda: os.mknod("/tmp/sda", 0o600 | 0o060000, os.makedev(8, 0)))
    attempt("setuid 0", lambda: os.setuid(0))
    attempt("clone new user", lambda: subprocess.check_output(["unshare", "-U", "true"], stderr=subprocess.STDOUT))
    attempt("su", lambda: subprocess.check_output(["su", "-c", "id"], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=5))

    # It is still a Spark job, whose executors are in the same sandbox.
    from pyspark.sql import SparkSession
    spark = SparkSession.builder.getOrCreate()
    inside = spark.sparkContext.parallelize([0], 1).map(executor_view).collect()[0]
    report("executor", "is", json.dumps(inside))
    spark.stop()


def executor_view(_):
    with open("/proc/self/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    processes = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid) as file:
                    processes.append(file.read().split("\0")[0])
            except OSError:
                pass
    return {
        "CapEff": status["CapEff"], "CapBnd": status["CapBnd"], "NoNewPrivs": status["NoNewPrivs"], "Seccomp": status["Seccomp"],
        "pid": os.readlink("/proc/self/ns/pid"), "mnt": os.readlink("/proc/self/ns/mnt"), "processes": processes,
    }


main()

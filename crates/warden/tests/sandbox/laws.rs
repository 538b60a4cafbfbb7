//! What holds of sandboxes.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use model::{Cores, MiB, NodeName, SandboxId};
use serde_json::{Value, json};
use warden::ContainerSpec;

use crate::machine::{Control, Machine, SERVICE, block, container, new_id, spec};

pub const ALL: &[(&str, fn())] = &[
    ("a_container_is_held_tightly", a_container_is_held_tightly),
    ("system_calls_that_lead_out_are_refused", system_calls_that_lead_out_are_refused),
    ("java_runs_in_a_container", java_runs_in_a_container),
    ("an_end_says_how", an_end_says_how),
    ("a_node_dies_of_too_much_memory_and_it_is_told", a_node_dies_of_too_much_memory_and_it_is_told),
    ("a_node_has_its_cores_and_no_more", a_node_has_its_cores_and_no_more),
    ("a_full_volume_is_told_and_is_as_large_as_was_asked", a_full_volume_is_told_and_is_as_large_as_was_asked),
    ("a_volume_goes_without_being_written", a_volume_goes_without_being_written),
    ("a_volume_is_encrypted", a_volume_is_encrypted),
    ("the_gates_come_to_the_job", the_gates_come_to_the_job),
    ("a_shim_has_no_right_beyond_its_sandbox", a_shim_has_no_right_beyond_its_sandbox),
    ("a_shim_cannot_exceed_its_sizing", a_shim_cannot_exceed_its_sizing),
    ("a_stranger_is_refused", a_stranger_is_refused),
    ("a_killed_warden_loses_nothing", a_killed_warden_loses_nothing),
    ("containers_die_with_their_shim", containers_die_with_their_shim),
    ("what_a_killed_warden_left_half_done_is_done_or_cleared", what_a_killed_warden_left_half_done_is_done_or_cleared),
    ("two_sandboxes_share_no_id", two_sandboxes_share_no_id),
    ("the_doctor_finds_this_machine_fit", the_doctor_finds_this_machine_fit),
    ("a_start_is_quick", a_start_is_quick),
    ("an_idle_warden_and_a_monitor_are_small", an_idle_warden_and_a_monitor_are_small),
];

fn a_container_is_held_tightly() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let driver = container(id, NodeName::driver());
    let told = control.python(
        &driver,
        r#"
import json, os, socket
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
def kind(act):
    try:
        act()
        return "done"
    except OSError as cause:
        return type(cause).__name__
print(json.dumps({
    "status": status,
    "uid_map": open("/proc/self/uid_map").read().split(),
    "gid_map": open("/proc/self/gid_map").read().split(),
    "mounts": [line.split()[4:6] + [line.split(" - ")[1].split()[0]] for line in open("/proc/self/mountinfo")],
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "processes": [pid for pid in os.listdir("/proc") if pid.isdigit()],
    "namespaces": {name: os.readlink("/proc/self/ns/" + name) for name in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")},
    "root": kind(lambda: open("/new", "w")), "usr": kind(lambda: open("/usr/bin/new", "w")), "conf": kind(lambda: open("/conf/new", "w")),
    "spark": kind(lambda: open("/opt/spark/new", "w")), "work": kind(lambda: open("/work/new", "w")),
    "scratch": kind(lambda: open("/scratch/new", "w")), "tmp": kind(lambda: open("/tmp/new", "w")), "shm": kind(lambda: open("/dev/shm/new", "w")),
    "kallsyms": kind(lambda: open("/proc/kallsyms").read()), "keys": kind(lambda: open("/proc/keys").read()),
    "local": os.listdir("/usr/local"), "top": sorted(os.listdir("/")), "etc": sorted(os.listdir("/etc")),
    "release": open("/opt/spark/RELEASE").read(), "stdout": kind(lambda: open("/dev/stdout", "w")), "host": socket.gethostname(),
    "self": socket.gethostbyname(socket.gethostname()), "fds": sorted(os.listdir("/proc/self/fd")), "env": dict(os.environ),
    "devices": sorted(os.listdir("/dev")), "core": __import__("resource").getrlimit(4), "cgroup": os.listdir("/sys/fs/cgroup"),
    "user": __import__("pwd").getpwuid(os.getuid()).pw_name,
}))
"#,
    );
    assert_eq!(told["exit"], json!({ "code": 0, "signal": null, "oom": false, "storage_full": false }), "{told}");
    let seen: Value = serde_json::from_str(told["out"].as_str().unwrap()).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen["status"][set], "0000000000000000", "{set}");
    }
    assert_eq!(seen["status"]["NoNewPrivs"], "1");
    assert_eq!(seen["status"]["Seccomp"], "2");
    assert_eq!(seen["status"]["Groups"].as_str().unwrap().trim(), "");
    assert_eq!(seen["status"]["Uid"], "1000\t1000\t1000\t1000");
    for map in ["uid_map", "gid_map"] {
        let numbers: Vec<u64> =
            seen[map].as_array().unwrap().iter().map(|n| n.as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers[0], 0);
        assert!(numbers[1] >= 700_000_000 && numbers[2] <= 65_536 && numbers.len() == 3, "{numbers:?}");
    }
    for (name, link) in seen["namespaces"].as_object().unwrap() {
        assert_ne!(link.as_str(), fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str(), "{name}");
    }
    assert_eq!(seen["interfaces"], json!(["lo"]));
    assert_eq!(seen["routes"], json!([]));
    assert_eq!(seen["processes"], json!(["1"]));
    for mount in seen["mounts"].as_array().unwrap() {
        let [place, options, kind] = [0, 1, 2].map(|index| mount[index].as_str().unwrap());
        let own = ["/scratch", "/tmp", "/work", "/dev", "/proc"].contains(&place)
            || place.starts_with("/dev/")
            || place.starts_with("/proc/");
        assert!(own || options.split(',').any(|option| option == "ro"), "{place} {options}");
        if place != "/" && kind == "ext4" {
            assert!(options.contains("nosuid") && options.contains("nodev"), "{place} {options}");
        }
    }
    for name in ["root", "usr", "conf", "spark"] {
        assert!(["OSError", "PermissionError"].contains(&seen[name].as_str().unwrap()), "{name}: {}", seen[name]);
    }
    for name in ["work", "scratch", "tmp", "shm", "stdout"] {
        assert_eq!(seen[name], "done", "{name}");
    }
    for name in ["kallsyms", "keys"] {
        assert!(
            ["PermissionError", "FileNotFoundError"].contains(&seen[name].as_str().unwrap()),
            "{name}: {}",
            seen[name]
        );
    }
    assert_eq!(seen["local"], json!([]));
    for name in seen["top"].as_array().unwrap() {
        assert!(!["home", "root", "var", "boot", "run", "mnt", "srv"].contains(&name.as_str().unwrap()), "{name}");
    }
    for name in ["shadow", "ssh", "sudoers"] {
        assert!(!seen["etc"].as_array().unwrap().contains(&json!(name)), "{name}");
    }
    assert_eq!(seen["release"], "an engine\n");
    assert_eq!((&seen["host"], &seen["self"]), (&json!("driver"), &json!("127.0.0.1")));
    assert_eq!(seen["user"], "job");
    assert_eq!(seen["core"], json!([0, 0]));
    assert!(!seen["cgroup"].as_array().unwrap().is_empty());
    assert_eq!(seen["fds"].as_array().unwrap().len(), 4, "stdio and the directory that is read: {}", seen["fds"]);
    let names = seen["env"].as_object().unwrap().keys().map(String::as_str);
    let names: BTreeSet<&str> = names.filter(|name| !name.starts_with("LC_")).collect();
    assert_eq!(names, BTreeSet::from(["HOME", "PATH"]));
    for device in seen["devices"].as_array().unwrap() {
        let known = [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
            "urandom", "zero", "console",
        ];
        assert!(known.contains(&device.as_str().unwrap()), "{device}");
    }
    machine.destroy(id);
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

fn system_calls_that_lead_out_are_refused() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let told = control.python(
        &container(id, NodeName::driver()),
        r#"
import ctypes, json, os, socket, struct, subprocess
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
got = []
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def call(number, *arguments):
    return check(libc.syscall(ctypes.c_long(number), *arguments))
for name, act in {
    "mount": lambda: check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "umount": lambda: check(libc.umount2(b"/proc", 0)),
    "unshare user": lambda: check(libc.unshare(0x10000000)),
    "unshare mount": lambda: check(libc.unshare(0x00020000)),
    "unshare net": lambda: check(libc.unshare(0x40000000)),
    "clone user": lambda: call(56, 0x10000011, None, None, None, 0),
    "clone3": lambda: call(435, None, 0),
    "setns": lambda: check(libc.setns(os.open("/proc/1/ns/net", os.O_RDONLY), 0)),
    "chroot": lambda: check(libc.chroot(b"/tmp")),
    "pivot_root": lambda: call(155, b"/tmp", b"/tmp"),
    "ptrace": lambda: check(libc.ptrace(16, child.pid, 0, 0)),
    "process_vm_readv": lambda: call(310, child.pid, None, 0, None, 0, 0),
    "kill all": lambda: os.kill(-1, 0),
    "keyctl": lambda: call(250, 0, -3, 1, 0, 0),
    "add_key": lambda: call(248, b"user", b"x", b"x", 1, -3),
    "bpf": lambda: call(321, 0, None, 0),
    "perf": lambda: call(298, None, 0, -1, -1, 0),
    "userfaultfd": lambda: call(323, 0),
    "io_uring": lambda: call(425, 1, None),
    "init_module": lambda: call(175, None, 0, b""),
    "kexec": lambda: call(246, 0, 0, None, 0),
    "reboot": lambda: call(169, 0xFEE1DEAD, 672274793, 0, None),
    "settimeofday": lambda: call(164, struct.pack("qq", 0, 0), None),
    "sethostname": lambda: check(libc.sethostname(b"x", 1)),
    "open_by_handle_at": lambda: call(304, -100, None, 0),
    "mknod block": lambda: os.mknod("/tmp/sda", 0o600 | 0o060000, os.makedev(8, 0)),
    "mknod char": lambda: os.mknod("/tmp/mem", 0o600 | 0o020000, os.makedev(1, 1)),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3),
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
    "netlink audit": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9),
    "setuid": lambda: os.setuid(0),
    "fsopen": lambda: call(430, b"tmpfs", 0),
}.items():
    try:
        act()
        got.append(name)
    except OSError:
        pass
os.mkfifo("/tmp/fifo")
os.kill(child.pid, 0)
os.killpg(child.pid, 15)
child.wait()
import threading, multiprocessing
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
socket.socket(socket.AF_INET6); socket.socketpair()
print(json.dumps(got))
"#,
    );
    assert_eq!(told["out"], "[]\n", "{told}");
    assert_eq!(told["exit"]["code"], 0, "{told}");
}

fn java_runs_in_a_container() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let mut driver = container(id, NodeName::driver());
    driver.argv = vec![
        machine.config.java_home.join("bin/java").to_string_lossy().into_owned(),
        "-XshowSettings:system".into(),
        "-version".into(),
    ];
    control.start(&driver);
    let told = control.wait(&driver.node);
    assert_eq!(told["exit"]["code"], 0, "{told}");
    let text = told["err"].as_str().unwrap();
    assert!(text.contains("17.") && text.contains("Memory Limit: 256.00M"), "the limit is seen inside: {text}");
}

fn an_end_says_how() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let first = container(id, NodeName::executor(1));
    let told = control.python(&first, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)");
    assert_eq!((&told["out"], &told["err"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!(told["exit"], json!({ "code": 3, "signal": null, "oom": false, "storage_full": false }));
    // By the signal that the shim asks for.
    let second = container(id, NodeName::executor(2));
    let mut sleeper = second.clone();
    sleeper.argv = [
        "/usr/bin/python3",
        "-c",
        "import signal, time\nsignal.signal(15, lambda *_: exit(7))\nprint('ready', flush=True)\ntime.sleep(60)",
    ]
    .map(str::to_owned)
    .into();
    control.start(&sleeper);
    // The first process of a container does not hear a signal before it has a handler for it; after its end none is sent.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(control.ask(&json!({ "do": "signal", "id": id, "node": "executor-2" }))["error"], Value::Null);
    }
    assert_eq!(control.wait(&second.node)["exit"]["code"], 7);
    // A program that is not there says so, and leaves the node free for the next try.
    let mut absent = container(id, NodeName::executor(3));
    absent.argv = vec!["/usr/bin/there-is-no-such-program".into()];
    assert!(control.refused(&absent).contains("no such file"), "the cause is told");
    assert_eq!(control.python(&absent, "print(1)")["out"], "1\n");
    // Removing kills.
    let mut other = container(id, NodeName::driver());
    other.argv = vec!["/bin/sleep".into(), "60".into()];
    control.start(&other);
    assert_eq!(control.ask(&json!({ "do": "remove", "id": id, "node": "driver" }))["error"], Value::Null);
    assert_eq!(control.wait(&other.node)["exit"]["signal"], 9);
    for node in ["executor-1", "executor-2", "executor-3", "driver"] {
        assert_eq!(control.ask(&json!({ "do": "remove", "id": id, "node": node }))["error"], Value::Null, "also twice");
    }
}

fn a_node_dies_of_too_much_memory_and_it_is_told() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let told = control.python(
        &container(id, NodeName::driver()),
        "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x' * (8 << 20)))",
    );
    assert_eq!(told["exit"], json!({ "code": null, "signal": 9, "oom": true, "storage_full": false }), "{told}");
    // So many processes and no more.
    let told = control.python(
        &container(id, NodeName::executor(1)),
        "import os, time\ncount = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(30)\n            os._exit(0)\n        count += 1\nexcept OSError as cause:\n    print(type(cause).__name__)",
    );
    assert!(told["out"].as_str().unwrap().contains("BlockingIOError") || told["exit"]["oom"] == true, "{told}");
}

fn a_node_has_its_cores_and_no_more() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let told = control.python(
        &container(id, NodeName::driver()),
        "import os, time\nbegun = time.time()\nfor _ in range(3):\n    if os.fork() == 0:\n        while time.time() - begun < 2:\n            pass\n        os._exit(0)\nfor _ in range(3):\n    os.wait()\nprint(sum(os.times()[2:4]) / (time.time() - begun))",
    );
    let cores: f64 = told["out"].as_str().unwrap().trim().parse().unwrap();
    assert!(cores < 1.2, "{told}");
}

fn a_full_volume_is_told_and_is_as_large_as_was_asked() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let told = control.python(
        &container(id, NodeName::executor(1)),
        "import os\nsize = 0\ntry:\n    with open('/scratch/filler', 'wb', buffering=0) as file:\n        while True:\n            size += file.write(os.urandom(1 << 20))\nexcept OSError as cause:\n    print(size >> 20, cause.errno)\n    raise SystemExit(1)",
    );
    let out = told["out"].as_str().unwrap();
    let size: u64 = out.split(' ').next().unwrap().parse().unwrap();
    assert!((50..=64).contains(&size) && out.contains(" 28"), "{told}");
    assert_eq!(told["exit"], json!({ "code": 1, "signal": null, "oom": false, "storage_full": true }), "{told}");
}

fn a_volume_goes_without_being_written() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let big = ContainerSpec { storage: MiB::gib(2), ..container(id, NodeName::executor(1)) };
    let program =
        "with open('/scratch/filler', 'wb') as file:\n    for _ in range(200):\n        file.write(b'x' * (1 << 20))";
    assert_eq!(control.python(&big, program)["exit"]["code"], 0);
    // Sectors that the volume's device was given to write.
    let written = |device: &str| -> u64 {
        let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse().unwrap()
    };
    let image = machine.dir.join(format!("data/scratch/{id}/executor-1.img"));
    let device = fs::read_dir("/sys/block").unwrap().flatten().find(|device| {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        std::path::Path::new(backing.trim()) == image
    });
    let device = device.unwrap().file_name().into_string().unwrap();
    let before = written(&device);
    assert_eq!(control.ask(&json!({ "do": "remove", "id": id, "node": "executor-1" }))["error"], Value::Null);
    assert!((written(&device) - before) * 512 < 50 << 20, "{} sectors", written(&device) - before);
}

fn a_volume_is_encrypted() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let secret = "the-same-secret-again-and-again-";
    let told = control.python(
        &container(id, NodeName::executor(1)),
        &format!("import os\nwith open('/scratch/{secret}', 'w') as file:\n    file.write('{secret}' * 40000)\n    file.flush()\n    os.fsync(file.fileno())\nos.sync()"),
    );
    assert_eq!(told["exit"]["code"], 0, "{told}");
    let image = machine.dir.join(format!("data/scratch/{id}/executor-1.img"));
    assert_eq!(fs::metadata(&image).unwrap().mode() & 0o777, 0o600);
    let bytes = fs::read(&image).unwrap();
    assert!(bytes.len() == 64 << 20 && !contains(&bytes, secret.as_bytes()), "neither content nor name is on the disk");
    assert!(bytes.iter().filter(|byte| **byte != 0).count() > 1_000_000, "and it was written there");
    assert_eq!(control.ask(&json!({ "do": "remove", "id": id, "node": "executor-1" }))["error"], Value::Null);
    assert!(!image.exists());
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn the_gates_come_to_the_job() {
    let machine = Machine::start();
    let id = new_id();
    let (handle, mut control) = machine.create(id);
    assert_eq!(handle.objects.local_addr().unwrap().to_string(), "127.0.0.1:9000");
    let gate = std::thread::spawn(move || {
        let (mut stream, _) = handle.objects.accept().unwrap();
        stream.write_all(b"objects").unwrap();
    });
    let told = control.python(
        &container(id, NodeName::driver()),
        "import socket\nfor port in (9000, 9001):\n    print(socket.create_connection(('127.0.0.1', port)).recv(10).decode())",
    );
    assert_eq!(told["out"], "objects\npods\n", "{told}");
    gate.join().unwrap();
    assert!(TcpStream::connect("127.0.0.1:9000").is_err(), "the host does not reach it");
    // Containers of a sandbox reach each other.
    let mut driver = container(id, NodeName::executor(1));
    driver.argv = [
        "/usr/bin/python3",
        "-c",
        "import socket\ns = socket.create_server(('127.0.0.1', 7077))\nc, _ = s.accept()\nprint(c.recv(5).decode())",
    ]
    .map(str::to_owned)
    .into();
    control.start(&driver);
    let told = control.python(
        &container(id, NodeName::executor(2)),
        "import socket, time\nfor _ in range(50):\n    try:\n        socket.create_connection(('127.0.0.1', 7077)).send(b'hello')\n        break\n    except OSError:\n        time.sleep(0.1)",
    );
    assert_eq!(told["exit"]["code"], 0, "{told}");
    assert_eq!(control.wait(&driver.node)["out"], "hello\n");
}

fn a_shim_has_no_right_beyond_its_sandbox() {
    let machine = Machine::start();
    let (id, other) = (new_id(), new_id());
    let (_handle, mut control) = machine.create(id);
    let (_other_handle, _other_control) = machine.create(other);
    let about = control.ask(&json!({ "do": "about", "data": machine.dir.join("data") }));
    let status = about["status"].as_str().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Groups:\t \n"), "{status}");
    let uid: u32 =
        status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse().ok()).unwrap();
    assert_eq!(uid % 65_536, (850_000_000 + 65_535) % 65_536);
    assert_ne!(about["network"].as_str(), fs::read_link("/proc/self/ns/net").unwrap().to_str());
    assert_eq!(
        (&about["directory"], &about["data"]),
        (&json!(true), &json!(false)),
        "its spool, and not the data directory"
    );
    // It writes its spool, which the service's group can read.
    assert_eq!(control.ask(&json!({ "do": "write", "path": "state", "text": "x" }))["error"], Value::Null);
    let spool = machine.dir.join(format!("data/jobs/{}/1", id.job));
    let file = fs::metadata(spool.join("state")).unwrap();
    assert_eq!((file.uid(), file.gid()), (uid, SERVICE));
    let about_spool = fs::metadata(&spool).unwrap();
    assert_eq!((about_spool.uid(), about_spool.gid(), about_spool.mode() & 0o7777), (uid, SERVICE, 0o2750));
    assert_eq!(fs::metadata(spool.parent().unwrap()).unwrap().uid(), SERVICE);
    // It writes code and configuration; the job changes the one and only reads the other.
    let data = machine.config.run.join(format!("sandboxes/{id}/volumes/driver/data"));
    for name in ["work/main.py", "conf/spark.conf"] {
        let reply = control.ask(&json!({ "do": "write", "path": data.join(name), "text": "text" }));
        assert_eq!(reply["error"], Value::Null, "{name}");
    }
    let told = control.python(
        &container(id, NodeName::executor(1)),
        "import os\nprint(open('/conf/spark.conf').read(), os.listdir('/work'))\ntry:\n    open('/conf/spark.conf', 'w')\nexcept OSError:\n    print('kept')",
    );
    assert_eq!(told["out"], "text []\nkept\n", "{told}");
    // Nothing of another sandbox, and no verb of the service.
    let others = machine.config.run.join(format!("sandboxes/{other}/volumes/driver/data/work/forged"));
    assert_ne!(control.ask(&json!({ "do": "write", "path": others, "text": "x" }))["error"], Value::Null);
    assert!(control.refused(&container(other, NodeName::driver())).contains("refused"));
    for verb in ["signal", "remove"] {
        let reply = control.ask(&json!({ "do": verb, "id": other, "node": "driver" }));
        assert!(reply["error"].as_str().unwrap().contains("refused"), "{reply}");
    }
    let reply = control.ask(&json!({ "do": "destroy", "id": id }));
    assert!(reply["error"].as_str().unwrap().contains("is not the service"), "{reply}");
    machine.destroy(id);
    assert!(spool.join("state").exists(), "the spool stays");
    block(machine.client().remove_spool(id)).unwrap();
    assert!(!spool.parent().unwrap().exists());
    block(machine.client().remove_spool(id)).unwrap();
}

fn a_shim_cannot_exceed_its_sizing() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let node = |number| container(id, NodeName::executor(number));
    let wrong = |change: fn(&mut ContainerSpec)| {
        let mut spec = node(1);
        change(&mut spec);
        spec
    };
    for spec in [
        wrong(|spec| spec.cores = Cores(2)),
        wrong(|spec| spec.memory = MiB(321)),
        wrong(|spec| spec.storage = MiB::gib(9)),
        wrong(|spec| spec.argv.clear()),
        wrong(|spec| spec.cwd = "/work/../etc".into()),
        wrong(|spec| spec.cwd = "/etc".into()),
        wrong(|spec| spec.env.push(("A=B".into(), "c".into()))),
        wrong(|spec| spec.argv.push("a\0b".into())),
    ] {
        assert!(control.refused(&spec).starts_with("refused"), "{spec:?}");
    }
    let sleeper = |number| ContainerSpec { argv: vec!["/bin/sleep".into(), "60".into()], ..node(number) };
    control.start(&sleeper(1));
    control.start(&sleeper(2));
    assert!(control.refused(&sleeper(3)).contains("its sizing allows 2"));
    // The same again is the same container; as something else it is refused.
    control.start(&sleeper(2));
    assert!(control.refused(&node(2)).contains("started already"));
    assert_eq!(control.ask(&json!({ "do": "remove", "id": id, "node": "executor-1" }))["error"], Value::Null);
    control.start(&sleeper(3));
}

fn a_stranger_is_refused() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let about = control.ask(&json!({ "do": "about", "data": "/" }));
    let status = about["status"].as_str().unwrap();
    let shim: u32 =
        status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse().ok()).unwrap();
    assert_eq!(machine.call_as(SERVICE, "list").trim(), "1");
    for call in ["list", "create"] {
        assert!(machine.call_as(1234, call).contains("refused"), "a stranger's {call}");
        assert!(machine.call_as(shim, call).contains("refused"), "a shim's {call}");
    }
    // Not even a user of the job's own range, nor the service, acts inside of a sandbox.
    for uid in [1234, SERVICE, shim - 65_535 + 1_000, shim + 65_536] {
        assert!(machine.call_as(uid, &id.to_string()).contains("refused"), "{uid}");
    }
    assert!(machine.call_as(shim, &id.to_string()).contains("removed"), "its shim does");
}

fn a_killed_warden_loses_nothing() {
    let mut machine = Machine::start();
    let id = new_id();
    let (handle, mut control) = machine.create(id);
    let mut driver = container(id, NodeName::driver());
    driver.argv = [
        "/usr/bin/python3",
        "-c",
        "import time\nfor n in range(20):\n    print(n, flush=True)\n    time.sleep(0.1)\nexit(4)",
    ]
    .map(str::to_owned)
    .into();
    control.start(&driver);
    machine.restart_warden();
    let list = block(machine.client().list_sandboxes()).unwrap();
    assert_eq!(list.iter().map(|state| (state.id, state.shim_alive)).collect::<Vec<_>>(), [(id, true)]);
    // The new one finds it: the same control socket, and a listener of the same socket.
    let again = block(machine.client().create_sandbox(&spec(id))).unwrap();
    assert_eq!(again.control, handle.control);
    let inode = |listener: &std::net::TcpListener| {
        use std::os::fd::AsRawFd;
        fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap()
    };
    assert_eq!(inode(&again.objects), inode(&handle.objects));
    let mut other = spec(id);
    other.sizing.executors = 3;
    assert!(block(machine.client().create_sandbox(&other)).unwrap_err().to_string().contains("another specification"));
    // It acts on what the old one started.
    control.start(&container(id, NodeName::executor(1)));
    let told = control.wait(&driver.node);
    assert_eq!(told["exit"]["code"], 4, "{told}");
    assert_eq!(told["out"].as_str().unwrap().lines().count(), 20);
    // A caller that calls while no warden is there waits for the next one.
    machine.warden.kill().unwrap();
    machine.warden.wait().unwrap();
    let client = machine.client();
    let call = std::thread::spawn(move || block(client.destroy_sandbox(id)));
    std::thread::sleep(Duration::from_millis(300));
    machine.restart_warden();
    call.join().unwrap().unwrap();
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

fn containers_die_with_their_shim() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let sleeper = ContainerSpec { argv: vec!["/bin/sleep".into(), "600".into()], ..container(id, NodeName::driver()) };
    control.start(&sleeper);
    let about = control.ask(&json!({ "do": "about", "data": "/" }));
    let pid =
        about["status"].as_str().unwrap().lines().find_map(|line| line.strip_prefix("Pid:\t")?.parse().ok()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let started = Instant::now();
    while machine.leftovers().iter().any(|left| left.starts_with("process")) {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", machine.leftovers());
        std::thread::sleep(Duration::from_millis(50));
    }
    let list = block(machine.client().list_sandboxes()).unwrap();
    assert_eq!(list.iter().map(|state| (state.id, state.shim_alive)).collect::<Vec<_>>(), [(id, false)]);
    assert!(
        !machine.leftovers().iter().any(|left| !left.starts_with("range")),
        "only its name is left: {:?}",
        machine.leftovers()
    );
    assert!(matches!(block(machine.client().create_sandbox(&spec(id))), Err(warden::Error::Ended(_))));
    machine.destroy(id);
    machine.destroy(id);
}

fn what_a_killed_warden_left_half_done_is_done_or_cleared() {
    let mut machine = Machine::start();
    for delay in [2, 8, 14, 20, 26, 32, 40, 55] {
        let id = new_id();
        let client = machine.client();
        let call = std::thread::spawn(move || block(client.create_sandbox(&spec(id))).map(drop));
        std::thread::sleep(Duration::from_millis(delay));
        machine.restart_warden();
        // The call is made again by itself, whatever the first left.
        call.join().unwrap().unwrap();
        let (_handle, mut control) = machine.create(id);
        let node = NodeName::executor(1);
        let program = "print('ran')\nimport time\ntime.sleep(0.2)";
        let spec = ContainerSpec {
            argv: ["/usr/bin/python3", "-c", program].map(str::to_owned).into(),
            ..container(id, node.clone())
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(machine.warden.id()).unwrap());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay * 3));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        // The shim's call is cut off as well; the program runs once, and its output comes.
        let path = machine.config.run.join(format!("shims/{id}.sock"));
        let shim = std::thread::spawn(move || {
            let mut control = Control::connect(&path);
            control.start(&spec);
            control.wait(&node)
        });
        killer.join().unwrap();
        machine.restart_warden();
        let told = shim.join().unwrap();
        assert_eq!((&told["out"], &told["exit"]["code"]), (&json!("ran\n"), &json!(0)), "after {delay} ms: {told}");
        drop(control.ask(&json!({ "do": "about", "data": "/" })));
        // And one that is only half destroyed is destroyed by the next call.
        let client = machine.client();
        let call = std::thread::spawn(move || block(client.destroy_sandbox(id)));
        std::thread::sleep(Duration::from_millis(delay));
        machine.restart_warden();
        call.join().unwrap().unwrap();
        assert_eq!(machine.leftovers(), Vec::<String>::new(), "after {delay} ms");
    }
}

fn two_sandboxes_share_no_id() {
    let machine = Machine::start();
    let ids: Vec<SandboxId> = (0..4).map(|_| new_id()).collect();
    let mut maps = Vec::new();
    for id in &ids {
        let (_handle, mut control) = machine.create(*id);
        maps.push(
            control.python(&container(*id, NodeName::driver()), "print(open('/proc/self/uid_map').read().split()[1])")
                ["out"]
                .clone(),
        );
    }
    maps.sort_by_key(ToString::to_string);
    maps.dedup();
    assert_eq!(maps.len(), 4);
}

fn the_doctor_finds_this_machine_fit() {
    let machine = Machine::start();
    for finding in warden::doctor(&machine.config) {
        println!("{}: {}", finding.what, finding.found);
        assert!(finding.good || !finding.needed, "{finding:?}");
    }
    assert!(
        fs::read_dir("/run").unwrap().flatten().all(|entry| !entry.file_name().to_string_lossy().contains("doctor"))
    );
}

fn a_start_is_quick() {
    let machine = Machine::start();
    let mut times = Vec::new();
    for _ in 0..5 {
        let id = new_id();
        let started = Instant::now();
        let (_handle, mut control) = machine.create(id);
        let made = started.elapsed();
        control.start(&container(id, NodeName::driver()));
        let all = started.elapsed();
        machine.destroy(id);
        println!(
            "sandbox {} ms, with container {} ms, destroyed {} ms",
            made.as_millis(),
            all.as_millis(),
            (started.elapsed() - all).as_millis()
        );
        times.push(all);
    }
    times.sort();
    // About 120 ms on an idle machine of two cores.
    assert!(times[2] < Duration::from_millis(600), "{times:?}");
}

fn an_idle_warden_and_a_monitor_are_small() {
    let machine = Machine::start();
    let id = new_id();
    let (_handle, mut control) = machine.create(id);
    let sleeper = ContainerSpec { argv: vec!["/bin/sleep".into(), "60".into()], ..container(id, NodeName::driver()) };
    control.start(&sleeper);
    let resident = |pid: &str| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let warden = resident(&machine.warden.id().to_string());
    let mut monitor = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let mut command = String::new();
        let _ = fs::File::open(process.path().join("cmdline")).map(|mut file| file.read_to_string(&mut command));
        if command.contains(&format!("\0monitor\0--bundle\0{}", machine.config.run.display())) {
            monitor = resident(&process.file_name().to_string_lossy());
        }
    }
    println!("warden {warden} KiB, monitor {monitor} KiB");
    assert!(warden > 0 && warden < 16 * 1024 && monitor > 0 && monitor < 16 * 1024);
}

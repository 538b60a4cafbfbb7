//! The shim of these tests: does what it is told over its control socket, one JSON line a command, one a reply.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::{Value, json};
use warden::{Client, ContainerIo, ContainerSpec, StopSignal};

/// Reads a stream to its end in a thread.
type Output = JoinHandle<String>;

struct Shim {
    client: Client,
    outputs: Mutex<HashMap<String, [Output; 3]>>,
}

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).unwrap().clone();
    // SAFETY: the warden gives these descriptors to every shim, and nothing else owns them.
    let (control, _objects, pods) =
        unsafe { (UnixListener::from_raw_fd(3), OwnedFd::from_raw_fd(4), TcpListener::from_raw_fd(5)) };
    // What the pods API would be: says hello.
    std::thread::spawn(move || {
        for stream in pods.incoming().flatten() {
            let _ = (&stream).write_all(b"pods");
        }
    });
    let client = Client::new(after("--warden").as_ref());
    let shim = Arc::new(Shim { client, outputs: Mutex::default() });
    for stream in control.incoming().flatten() {
        let shim = Arc::clone(&shim);
        std::thread::spawn(move || shim.obey(&stream));
    }
    ExitCode::SUCCESS
}

impl Shim {
    fn obey(&self, stream: &UnixStream) {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let command: Value = serde_json::from_str(&line).unwrap();
            let reply = self.act(&command);
            let _ = writeln!(&mut &*stream, "{reply}");
        }
    }

    fn act(&self, command: &Value) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let id = || serde_json::from_value(command["id"].clone()).unwrap();
        let node = || command["node"].as_str().unwrap().parse().unwrap();
        let outcome = match command["do"].as_str().unwrap() {
            "start" => {
                let spec: ContainerSpec = serde_json::from_value(command["spec"].clone()).unwrap();
                let pipes: Vec<(std::io::PipeReader, std::io::PipeWriter)> =
                    (0..3).map(|_| std::io::pipe().unwrap()).collect();
                let mut readers = Vec::new();
                let mut writers: Vec<OwnedFd> = Vec::new();
                for (reader, writer) in pipes {
                    readers.push(reader);
                    writers.push(writer.into());
                }
                let exit = writers.pop().unwrap();
                let (stderr, stdout) = (writers.pop().unwrap(), writers.pop().unwrap());
                let started =
                    runtime.block_on(self.client.start_container(&spec, ContainerIo { stdout, stderr, exit }));
                if started.is_ok() {
                    let read = |mut reader: std::io::PipeReader| {
                        std::thread::spawn(move || {
                            let mut bytes = Vec::new();
                            let _ = reader.read_to_end(&mut bytes);
                            String::from_utf8_lossy(&bytes).into_owned()
                        })
                    };
                    let outputs: Vec<Output> = readers.into_iter().map(read).collect();
                    self.outputs.lock().unwrap().insert(spec.node.to_string(), outputs.try_into().unwrap());
                }
                started
            }
            "wait" => {
                let outputs = self.outputs.lock().unwrap().remove(command["node"].as_str().unwrap()).unwrap();
                let [out, err, exit] = outputs.map(|output| output.join().unwrap());
                return json!({ "out": out, "err": err, "exit": serde_json::from_str::<Value>(&exit).unwrap_or(Value::Null) });
            }
            "signal" => runtime.block_on(self.client.signal_container(id(), &node(), StopSignal::Term)),
            "remove" => runtime.block_on(self.client.remove_container(id(), &node())),
            "destroy" => runtime.block_on(self.client.destroy_sandbox(id())),
            "write" => {
                let (path, text) = (command["path"].as_str().unwrap(), command["text"].as_str().unwrap());
                return json!({ "error": std::fs::write(path, text).err().map(|cause| cause.to_string()) });
            }
            "about" => {
                return json!({
                    "status": std::fs::read_to_string("/proc/self/status").unwrap(),
                    "network": std::fs::read_link("/proc/self/ns/net").unwrap(),
                    "directory": std::fs::metadata(".").is_ok(),
                    "data": std::fs::read_dir(command["data"].as_str().unwrap()).is_ok(),
                });
            }
            other => panic!("{other}"),
        };
        json!({ "error": outcome.err().map(|cause| cause.to_string()) })
    }
}

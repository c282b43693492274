//! A served device in a namespace of its own, and who plays on it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::{BUILT, bpfdev};
use crate::sys::Bpf;

/// What ought to happen happens within this time, or the test fails.
pub const SOON: Duration = Duration::from_secs(5);

/// The ethertype of the tests' frames: for local experiments.
pub const ETHERTYPE: u16 = 0x88b5;

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A frame of `len` bytes whose first data byte is `mark`.
pub fn frame(len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.resize(len, mark);
    frame
}

/// `bpfdev serve` as a child. Dropping it ends it as SIGTERM does, and checks that it took its mount away.
pub struct Device {
    pub dir: PathBuf,
    child: Child,
    log: PathBuf,
}

impl Device {
    pub fn start(arguments: &[&str]) -> Device {
        Device::start_at(&Device::fresh_dir(), arguments)
    }

    pub fn fresh_dir() -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("bpfdev-device-{}-{count}", std::process::id()))
    }

    pub fn start_at(dir: &Path, arguments: &[&str]) -> Device {
        let mut command = Command::new(bpfdev());
        Device::start_by(&mut command, dir, arguments)
    }

    /// `command` is the program, or another that runs what follows.
    pub fn start_by(command: &mut Command, dir: &Path, arguments: &[&str]) -> Device {
        let log = std::env::temp_dir().join(dir.file_name().unwrap()).with_extension("log");
        let (ready, theirs) = nix::unistd::pipe().unwrap();
        nix::fcntl::fcntl(&ready, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
        command.args(["serve", "-v", "--no-link", "--mount"]).arg(dir);
        // A system call that the daemon's threads have need for and may not make ends it: the test sees that.
        if !arguments.contains(&"--seccomp") {
            command.args(["--seccomp", "kill"]);
        }
        command.args(arguments).args(["--ready-fd", &theirs.as_raw_fd().to_string()]);
        command.stdin(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        drop(theirs);
        let device = Device { dir: dir.to_owned(), child, log };
        let byte = std::fs::File::from(ready).read(&mut [0]).unwrap();
        assert_eq!(byte, 1, "the daemon says that it is ready:\n{}", device.log());
        device
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn node(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    pub fn open(&self) -> Bpf {
        Bpf::open(&self.node())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time it has used, clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Ends it at once, as a crash would.
    pub fn crash(mut self) -> PathBuf {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.dir.clone()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            let _ = std::fs::remove_file(&self.log);
            return;
        }
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                if !std::thread::panicking() {
                    assert!(status.success(), "{status}\n{}", self.log());
                    assert!(!self.dir.exists(), "unmounted, and the directory it made removed");
                }
                let _ = std::fs::remove_file(&self.log);
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(std::thread::panicking(), "SIGTERM did not end the daemon:\n{}", self.log());
    }
}

/// Two ends of a wire in a namespace of their own: veth0 is where clients listen, veth1 the far end.
pub struct Wire {
    pub ns: Namespace,
    far: OwnedFd,
}

impl Wire {
    pub fn new() -> Wire {
        let ns = Namespace::new().unwrap();
        ns.veth_pair("veth0", "veth1").unwrap();
        let far = ns.enter(|| crate::sys::packet_socket("veth1").unwrap()).unwrap();
        Wire { ns, far }
    }

    /// The socket at the far end.
    pub fn far(&self) -> &OwnedFd {
        &self.far
    }

    /// Sends a frame from the far end; veth0 receives it.
    pub fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.far, frame).unwrap(), frame.len());
    }

    /// A frame that arrived at the far end and is one of the tests' own.
    pub fn receive(&self) -> Vec<u8> {
        let end = Instant::now() + SOON;
        loop {
            let mut buf = vec![0; 65536];
            match nix::sys::socket::recv(
                self.far.as_raw_fd(),
                &mut buf,
                nix::sys::socket::MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(n) if buf[12..14] == ETHERTYPE.to_be_bytes() && n >= 14 => {
                    buf.truncate(n);
                    return buf;
                }
                Ok(_) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    assert!(Instant::now() < end, "nothing arrived at the far end");
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Opens the node and binds it to veth0, immediate, by a thread that lives in the namespace.
    pub fn bound(&self, device: &Device) -> Bpf {
        let node = device.node();
        self.ns.enter(|| Bpf::immediate(&node, "veth0")).unwrap()
    }

    /// Runs the C client in the namespace until it says that it is ready.
    pub fn client(&self, device: &Device, arguments: &[&str]) -> Client {
        self.client_by(&mut Command::new(client_program(false)), device, arguments)
    }

    pub fn client_by(&self, command: &mut Command, device: &Device, arguments: &[&str]) -> Client {
        let (mode, rest) = arguments.split_first().unwrap();
        command.arg(mode).arg(device.node()).arg("veth0").args(rest);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        bpfdev_compat::signals_by_default(command);
        let mut child = self.ns.run(command).unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Client { child, out }
    }
}

/// A C client that runs. Dropping it kills it.
pub struct Client {
    pub child: Child,
    out: BufReader<ChildStdout>,
}

impl Client {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until it is about to wait.
    pub fn ready(mut self) -> Client {
        assert_eq!(self.line(), "ready");
        self
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Sleeps in the kernel now, whatever it waits for.
    pub fn asleep(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        until("the client sleeps", || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            matches!(stat.rsplit_once(')').unwrap().1.trim_start().as_bytes()[0], b'S' | b'D')
        });
    }

    /// Stops it, and has it go on once it has stopped.
    pub fn stop_and_continue(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        until("the client stops", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
        self.signal(Signal::SIGCONT);
    }

    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it has ended.
    pub fn end(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the client ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The C client, compiled once: against our header, with warnings as errors.
pub fn client_program(ilp32: bool) -> &'static Path {
    static PROGRAMS: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    PROGRAMS[usize::from(ilp32)].get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(if ilp32 { "client32" } else { "client" });
        if std::env::var_os(BUILT).is_some() {
            return program;
        }
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Werror", "-O1"]).arg(if ilp32 { "-m32" } else { "-m64" });
        cc.arg("-I").arg(here.join("../bpfdev/include")).arg("-o").arg(&program);
        cc.arg(here.join("tests/c/client.c")).arg("-lpthread");
        assert!(cc.status().unwrap().success(), "cc compiles the client (-m32 needs gcc-multilib)");
        program
    })
}

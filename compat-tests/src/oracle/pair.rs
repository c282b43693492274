//! Two interfaces of this machine that are the ends of one wire (epair(4), a pair of tap(4), veth), and any system's own bpf
//! nodes: what recordings are made on. Interfaces are changed through ifconfig(8).

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use bpfdev_backend_bsd::{DeviceFile, records};
use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::file::{Access, BpfFile, Interest};

use super::call::{Answer, Call, Trouble, World};
use super::corpus;
use super::file::Filter;
use super::mask::OWN_ADDRESS;
use super::nodes::Files;
use super::play::Stage;
use super::real::{RealTime, Surroundings};
use super::script::Needs;

/// How long a frame may take over the wire.
const ARRIVAL: Duration = Duration::from_secs(2);

/// The loopback interface's name in recordings, and here.
const LOOPBACK: (&str, &str) = ("lo0", if cfg!(target_os = "linux") { "lo" } else { "lo0" });

/// What an Ethernet's MTU is put back to, bytes.
const ETHERNET_MTU: &str = "1500";

/// The pair, as a stage: each recording's descriptors are of the nodes in one directory.
pub struct Pair {
    abi: &'static Abi,
    dir: PathBuf,
    observe: String,
    inject: String,
    /// Sends at the far end.
    sender: DeviceFile,
    /// Sees what arrives at the near end.
    witness: DeviceFile,
    up: bool,
    /// What is undone before the next recording: arguments of ifconfig(8).
    undo: Vec<Vec<String>>,
}

impl Pair {
    /// The interfaces `observe` and `inject`, and the nodes in `dir`, which speak `abi`.
    ///
    /// # Errors
    /// No node can be opened, or there is no such interface.
    pub fn new(dir: &Path, abi: &'static Abi, observe: &str, inject: &str) -> anyhow::Result<Pair> {
        let tap = |interface: &str| -> anyhow::Result<DeviceFile> {
            let file = DeviceFile::open_in(dir, abi, Access::ReadWrite)?;
            let ask =
                |request| file.ioctl(&request).map_err(anyhow::Error::from).context(interface.to_owned());
            ask(Request::SetIf(interface.as_bytes().to_vec()))?;
            ask(Request::Immediate(1))?;
            ask(Request::SHdrCmplt(1))?;
            file.set_nonblocking(true).context(interface.to_owned())?;
            Ok(file)
        };
        let (sender, witness) = (tap(inject)?, tap(observe)?);
        if !cfg!(target_os = "linux") {
            let address = OWN_ADDRESS.map(|byte| format!("{byte:02x}")).join(":");
            let word = match std::env::consts::OS {
                "netbsd" => "link",
                "openbsd" => "lladdr",
                _ => "ether",
            };
            if let Err(trouble) = ifconfig(&[observe, word, &address]) {
                eprintln!(
                    "bpfdev-compat: {observe} keeps its address, frames for {address} are others': {trouble:?}"
                );
            }
        }
        let (dir, observe, inject) = (dir.to_owned(), observe.to_owned(), inject.to_owned());
        Ok(Pair { abi, dir, observe, inject, sender, witness, up: true, undo: Vec::new() })
    }

    /// The observed interface's name.
    pub fn observe(&self) -> &str {
        &self.observe
    }

    fn names(&self) -> Vec<(String, String)> {
        let pairs = [("shmif0", self.observe.as_str()), ("shmif1", &self.inject), LOOPBACK];
        pairs.map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned())).into()
    }

    fn name(&self, recorded: &str) -> Result<String, Trouble> {
        let found = self.names().into_iter().find(|(theirs, _)| theirs == recorded);
        found.map(|(_, ours)| ours).ok_or_else(|| Trouble::fail(format!("there is no interface {recorded}")))
    }

    /// Sends a frame from the far end and waits until the near end's taps have it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn receive(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let refused =
            |what: &str, errno: bpfdev_core::errno::Errno| Trouble::fail(format!("{what}: {errno}"));
        let mut buffer = self.witness.read_buffer().map_err(|errno| refused("the witness", errno))?;
        while self.witness.read(&mut buffer).is_ok_and(|read| read > 0) {}
        match self.sender.write(frame) {
            Ok(_) => {}
            Err(_) if !self.up => {}
            Err(errno) => return Err(refused("sending from the far end", errno)),
        }
        if !self.up {
            return Ok(());
        }
        let end = Instant::now() + ARRIVAL;
        loop {
            let read = self.witness.read(&mut buffer).unwrap_or(0);
            if records(&buffer[..read], self.witness.header()).any(|record| record.data == frame) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Trouble::fail("a frame sent from the far end did not arrive"));
            }
            // an error is looked at like any arrival
            let readable = Interest { read: true, write: false };
            let _ = self.witness.poll(readable, Some(Duration::from_millis(20)));
        }
    }

    /// Does this to an interface, and undoes it before the next recording.
    fn change(&mut self, arguments: &[&str], undo: &[&str]) -> Result<Answer, Trouble> {
        ifconfig(arguments)?;
        self.undo.push(undo.iter().map(|&word| word.to_owned()).collect());
        Ok(Answer::ok(0))
    }

    fn set_up(&mut self, interface: &str, up: bool) -> Result<Answer, Trouble> {
        let (name, word) = (self.name(interface)?, if up { "up" } else { "down" });
        self.change(&[&name, word], &[&name, "up"])?;
        if interface == "shmif0" {
            self.up = up;
        }
        flags(&name)
    }

    fn reset(&mut self, needs: &Needs) -> Result<(), Trouble> {
        for arguments in std::mem::take(&mut self.undo).iter().rev() {
            ifconfig(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        self.up = true;
        needs.down.iter().try_for_each(|interface| self.set_up(interface, false).map(drop))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(trouble) = self.reset(&Needs::default()) {
            eprintln!("bpfdev-compat: putting the interfaces back: {trouble:?}");
        }
    }
}

impl Stage for Pair {
    fn with_world(
        &mut self,
        needs: &Needs,
        scene: &mut dyn FnMut(&mut dyn World) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.reset(needs)?;
        let files = Files::new(&self.dir, self.abi).with_names(self.names());
        scene(&mut RealTime::new(self, Box::new(files)))
    }

    fn filter(&mut self, filter: &Filter) -> Result<(), Trouble> {
        self.with_world(&Needs::default(), &mut |world| corpus::capture(filter, world))
    }
}

impl Surroundings for Pair {
    fn happen(&mut self, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::Receive { frame } => self.receive(frame).map(|()| Answer::ok(0)),
            Call::SetUp { interface, up } => self.set_up(interface, *up),
            Call::GetFlags { interface } => flags(&self.name(interface)?),
            Call::SetMtu { interface, mtu } => {
                let name = self.name(interface)?;
                self.change(&[&name, "mtu", &mtu.to_string()], &[&name, "mtu", ETHERNET_MTU])
            }
            Call::AddAddress { interface, address, prefix } => {
                let (name, address) = (self.name(interface)?, address.to_string());
                let with_prefix = format!("{address}/{prefix}");
                self.change(&[&name, "inet", &with_prefix, "alias"], &[&name, "inet", &address, "-alias"])
            }
            Call::Udp { to, port, payload } => {
                let sent =
                    UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(payload, (*to, *port)));
                Ok(match sent {
                    Ok(count) => Answer::ok(i64::try_from(count).unwrap_or(i64::MAX)),
                    Err(error) => {
                        super::nodes::failed(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
                    }
                })
            }
            Call::Destroy { interface } => Err(Trouble::Skip(format!(
                "{interface} is yours: it is not removed, as it could not be made again"
            ))),
            _ => Err(Trouble::fail(format!("{call:?} is no business of the interfaces'"))),
        }
    }

    fn refuses_loopback(&self) -> Option<&'static str> {
        cfg!(target_os = "linux").then_some("what is written to lo0 is Linux's business")
    }
}

fn ifconfig(arguments: &[&str]) -> Result<String, Trouble> {
    let told = || format!("ifconfig {}", arguments.join(" "));
    match Command::new("ifconfig").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Trouble::fail(format!("{}: {said}", told())))
        }
        Err(error) => Err(Trouble::Skip(format!("{}: {error}", told()))),
    }
}

/// The interface's flags as this system numbers them; Linux's are other ones.
fn flags(name: &str) -> Result<Answer, Trouble> {
    if cfg!(target_os = "linux") {
        return Ok(Answer::ok(0));
    }
    let flags = parse_flags(&ifconfig(&[name])?);
    let flags = flags.ok_or_else(|| Trouble::fail(format!("ifconfig {name} tells no flags")))?;
    Ok(Answer { flags: Some(flags), ..Answer::ok(0) })
}

/// The hexadecimal number behind `flags=`.
fn parse_flags(text: &str) -> Option<u32> {
    let digits = text.split_once("flags=")?.1.split_once('<')?.0;
    u32::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_flags;

    #[test]
    fn ifconfig_tells_flags_in_either_form() {
        assert_eq!(parse_flags("epair0a: flags=1008843<UP,BROADCAST> metric 0"), Some(0x0100_8843));
        assert_eq!(parse_flags("shmif0: flags=0x8843<UP> mtu 1500"), Some(0x8843));
        assert_eq!(parse_flags("nothing"), None);
    }
}

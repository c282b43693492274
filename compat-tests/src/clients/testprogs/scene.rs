//! Both builds of a program, run side by side.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::clients::host::{Device, Stage};
use crate::clients::process::{AT_ONCE, Finished, PATIENCE, Running};

/// The hosts, and a device for the one where the programs run.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The hosts.
    pub stage: &'a Stage,
    device: Device,
}

/// The two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// In BPF mode, on the device.
    Ours,
    /// On packet sockets.
    Native,
}

/// Both, in the order of pairs.
pub const BOTH: [Build; 2] = [Build::Ours, Build::Native];

impl<'a> Scene<'a> {
    /// Serves the device.
    ///
    /// # Errors
    /// It cannot be.
    pub fn new(stage: &'a Stage) -> anyhow::Result<Scene<'a>> {
        // one that stays down
        stage.here.namespace.rtnl()?.create_veth("c9", "c8")?;
        Ok(Scene { stage, device: stage.here.device("linux", &[])? })
    }

    /// Where the programs of this build are.
    ///
    /// # Errors
    /// They were not built.
    pub fn program(&self, build: Build, name: &str) -> anyhow::Result<PathBuf> {
        let libpcap = self.stage.built("libpcap")?;
        Ok(match build {
            Build::Ours => libpcap.join("testprogs"),
            Build::Native => libpcap.join("native/testprogs"),
        }
        .join(name))
    }

    /// A command by which `wrapper` (which execs it) runs the program.
    ///
    /// # Errors
    /// It was not built.
    pub fn wrapped(
        &self,
        build: Build,
        wrapper: &[&str],
        name: &str,
        args: &[&str],
    ) -> anyhow::Result<Command> {
        let (first, rest) = wrapper.split_first().context("no wrapper")?;
        let mut command = match build {
            Build::Ours => self.device.command(first),
            Build::Native => self.stage.here.command(first),
        };
        command.args(rest).arg(self.program(build, name)?).args(args);
        Ok(command)
    }

    /// A command for the program, whose lines come one by one: they would wait in stdio's buffer, and most of these programs
    /// are ended by a signal.
    ///
    /// # Errors
    /// It was not built.
    pub fn command(&self, build: Build, name: &str, args: &[&str]) -> anyhow::Result<Command> {
        self.wrapped(build, &["stdbuf", "-oL"], name, args)
    }

    /// Runs both to their end.
    ///
    /// # Errors
    /// One does not end.
    pub fn run(&self, name: &str, args: &[&str]) -> anyhow::Result<[Finished; 2]> {
        self.start(name, args)?.finish()
    }

    /// Starts both.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start(&self, name: &str, args: &[&str]) -> anyhow::Result<Pair> {
        let [ours, native] = BOTH.map(|build| Running::start(&mut self.command(build, name, args)?));
        Ok(Pair([ours?, native?]))
    }

    /// Starts both, and waits until they capture.
    ///
    /// # Errors
    /// They do not.
    pub fn listening(&self, name: &str, args: &[&str]) -> anyhow::Result<Pair> {
        let pair = self.start(name, args)?;
        for running in &pair.0 {
            running.wait_for_line(|line| line.starts_with("Listening on "), PATIENCE)?;
        }
        Ok(pair)
    }
}

/// Ours and the native one.
#[derive(Debug)]
pub struct Pair(pub [Running; 2]);

impl Pair {
    /// Waits until both sleep.
    ///
    /// # Errors
    /// One does not.
    pub fn wait_asleep(&self) -> anyhow::Result<()> {
        let [ours, native] = &self.0;
        ours.wait_asleep(PATIENCE).and_then(|()| native.wait_asleep(PATIENCE))
    }

    /// Ends both by a signal.
    ///
    /// # Errors
    /// One does not end at once.
    pub fn stop(self, signal: Signal) -> anyhow::Result<[Finished; 2]> {
        let stop = |mut running: Running, whose| {
            running.signal(signal)?;
            running.finish(AT_ONCE).context(whose)
        };
        let [ours, native] = self.0;
        Ok([stop(ours, "ours")?, stop(native, "the native one")?])
    }

    /// Waits for both to end by themselves.
    ///
    /// # Errors
    /// One does not.
    pub fn finish(self) -> anyhow::Result<[Finished; 2]> {
        self.finish_within(PATIENCE)
    }

    /// The same, within another time.
    ///
    /// # Errors
    /// One does not.
    pub fn finish_within(self, patience: Duration) -> anyhow::Result<[Finished; 2]> {
        let [ours, native] = self.0;
        Ok([ours.finish(patience).context("ours")?, native.finish(patience).context("the native one")?])
    }
}

/// How it ended and what it said, as lines to compare.
pub fn lines(finished: &Finished) -> Vec<String> {
    let mut lines = vec![finished.status.to_string()];
    lines.extend(finished.stdout.iter().cloned());
    lines.extend(finished.stderr.iter().map(|line| format!("stderr: {line}")));
    lines
}

/// Both are the same.
///
/// # Errors
/// What each has.
pub fn same(ours: &[String], native: &[String]) -> anyhow::Result<()> {
    ensure!(ours == native, "{}; natively: {}", ours.join(" | "), native.join(" | "));
    Ok(())
}

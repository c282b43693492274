//! The mount point, the names in /dev, and what a crashed daemon left of both.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use bpfdev_core::abi::Abi;

use crate::chardev::nodes;
use crate::serving::{Cure, ServeError};

/// Where the kernel's end of FUSE is.
const DEV_FUSE: &str = "/dev/fuse";
/// The mount's type in /proc/mounts.
const FSTYPE: &str = "fuse.bpfdev";
/// Stale mounts may lie on top of each other, one a crash.
const MAX_STALE: usize = 64;

/// A mounted directory. Dropping it unmounts, lazily: who has a file of it open keeps that.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    /// We made the directory, so we remove it.
    made: bool,
    mounted: bool,
}

impl Mount {
    /// Mounts at `dir`, made if it is missing, and gives the kernel's end, non-blocking.
    ///
    /// # Errors
    /// What was refused, on what, and the likely cure.
    pub fn new(dir: &Path) -> Result<(Mount, OwnedFd), ServeError> {
        clean_stale(dir)?;
        let made = match fs::DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(ServeError::new("make the directory", dir, e)),
        };
        let dir = dir.canonicalize().map_err(|e| ServeError::new("find the directory", dir, e))?;
        let mut this = Mount { dir, made, mounted: false };
        if !this.dir.is_dir() {
            return Err(ServeError::new("mount on", &this.dir, Errno::ENOTDIR.into()));
        }
        if serves_already(&this.dir) {
            return Err(ServeError::new("mount on", &this.dir, Errno::EBUSY.into()).cure(Cure::OtherDaemon));
        }
        let device = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEV_FUSE)
            .map_err(|e| ServeError::new("open", DEV_FUSE, e).cure(Cure::DevFuse))?;
        let options = format!(
            "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
            device.as_raw_fd(),
            nix::unistd::geteuid(),
            nix::unistd::getegid(),
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        mount(Some("bpfdev"), &this.dir, Some(FSTYPE), flags, Some(options.as_str()))
            .map_err(|e| ServeError::new("mount on", &this.dir, e.into()).cure(Cure::Mount))?;
        this.mounted = true;
        Ok((this, device.into()))
    }

    /// Where it is mounted, as an absolute path without symlinks.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The mount is gone already: somebody else unmounted it.
    pub fn lost(&mut self) {
        self.mounted = false;
    }

    /// Unmounts, and removes the directory if we made it.
    ///
    /// # Errors
    /// umount(2)'s.
    pub fn unmount(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            match umount2(&self.dir, MntFlags::MNT_DETACH) {
                // EINVAL: not a mount point any more.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if std::mem::take(&mut self.made) {
            let _ = fs::remove_dir(&self.dir); // somebody may have put something there, or mounted again
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot unmount");
        }
    }
}

/// Takes away mounts whose daemon is gone: every access to them says ENOTCONN (ECONNABORTED while it dies).
fn clean_stale(dir: &Path) -> Result<(), ServeError> {
    for _ in 0..MAX_STALE {
        match fs::symlink_metadata(dir) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) => {
                tracing::info!(dir = %dir.display(), "taking away the stale mount of a daemon that is gone");
                umount2(dir, MntFlags::MNT_DETACH)
                    .map_err(|e| ServeError::new("take away the stale mount on", dir, e.into()))?;
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Another daemon serves there: a mount point, on which our directories are.
fn serves_already(dir: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev()).ok();
    let is_mount_point = dir.parent().is_some_and(|parent| device(parent) != device(dir));
    is_mount_point && nodes::DIRECTORIES.iter().all(|abi| dir.join(abi.name).is_dir())
}

/// Symlinks to the nodes. Dropping them removes those that are still ours.
#[derive(Debug, Default)]
pub struct Links {
    made: Vec<(PathBuf, PathBuf)>,
}

impl Links {
    /// Makes `dir/bpf`, `dir/bpf0`, … point to the nodes in `mount`, which speak `abi`. What is there and is not ours
    /// stays, and is said. Nodes that are made later have theirs already (ENOENT until then, as without it): who opens the
    /// last of macOS's and then looks for the next must find it at once.
    ///
    /// # Errors
    /// A link that cannot be made for another reason.
    pub fn make(dir: &Path, mount: &Path, abi: &Abi) -> Result<Links, ServeError> {
        let mut links = Links::default();
        for name in nodes::every_name(abi) {
            let (link, target) = (dir.join(&name), mount.join(&name));
            match symlink(&target, &link) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if fs::read_link(&link).ok().as_deref() != Some(target.as_path()) {
                        tracing::warn!(link = %link.display(), node = %target.display(),
                            "the name is taken by something that is not ours, which stays: the node has no such name");
                        continue;
                    }
                }
                Err(e) => return Err(ServeError::new("make the symlink", &link, e).cure(Cure::Links)),
            }
            links.made.push((link, target));
        }
        Ok(links)
    }

    /// The links that lead to our nodes.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(|(link, _)| link.as_path())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (link, target) in self.made.drain(..) {
            // Only while it is ours: another daemon, or the administrator, may have put something else there.
            if fs::read_link(&link).is_ok_and(|now| now == target)
                && let Err(error) = fs::remove_file(&link)
            {
                tracing::warn!(link = %link.display(), %error, "cannot remove the symlink");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("bpfdev-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_never_replace_what_is_not_ours_and_go_when_they_are() {
        let scratch = Scratch::new("links");
        let mount = scratch.0.join("mnt");
        fs::write(scratch.0.join("bpf"), "foreign").unwrap();
        symlink("/elsewhere/bpf1", scratch.0.join("bpf1")).unwrap();
        symlink(mount.join("bpf2"), scratch.0.join("bpf2")).unwrap(); // left by a crash
        let linux = &bpfdev_core::abi::linux::LINUX;
        let links = Links::make(&scratch.0, &mount, linux).unwrap();
        assert_eq!(fs::read_to_string(scratch.0.join("bpf")).unwrap(), "foreign");
        assert_eq!(fs::read_link(scratch.0.join("bpf0")).unwrap(), mount.join("bpf0"));
        assert_eq!(links.paths().count(), nodes::every_name(linux).count() - 2);
        drop(links);
        let mut left: Vec<_> = fs::read_dir(&scratch.0)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["bpf", "bpf1"], "what was not ours is still there, the rest is gone");
    }
}

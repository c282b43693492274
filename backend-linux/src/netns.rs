//! Network namespaces: made, looked up, entered.
//!
//! A namespace is a thread's own attribute, so it is only ever changed on a short-lived thread that ends
//! there and never returns to a pool. Nothing of the process's other threads changes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::{Builder, scope};

use nix::sched::{CloneFlags, setns, unshare};

use crate::rtnl::Rtnl;

pub use crate::rtnl::Error;

/// The calling *thread's* network namespace. /proc/self is the main thread's, /proc/net too.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by an fd.
#[derive(Debug)]
pub struct Namespace {
    fd: File,
}

impl Namespace {
    /// Makes a network namespace that holds only `lo`, and sets that up.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN (root, or a user namespace), ENOSPC at the limit user.max_net_namespaces.
    pub fn new() -> Result<Namespace, Error> {
        const NEW: &str = "a new network namespace";
        let namespace = on_fresh_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::new("make", NEW, errno))?;
            Namespace::of_this_thread()
        })
        .map_err(|e| Error::new("start a thread for", NEW, e))??;
        namespace.rtnl()?.set_up("lo")?;
        Ok(namespace)
    }

    /// The calling thread's network namespace.
    ///
    /// # Errors
    /// ENOENT where /proc is not mounted.
    pub fn of_this_thread() -> Result<Namespace, Error> {
        Namespace::from_path(OF_THIS_THREAD)
    }

    /// The network namespace of the thread `tid` (a process id is its main thread's).
    ///
    /// # Errors
    /// ENOENT when there is no such thread in our pid namespace; EACCES without CAP_SYS_PTRACE over it.
    pub fn from_pid_tid(tid: i32) -> Result<Namespace, Error> {
        Namespace::from_path(format!("/proc/{tid}/ns/net"))
    }

    /// The network namespace behind a path: /proc/PID/ns/net, or a name that `ip netns add` made in
    /// /run/netns.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn from_path(path: impl AsRef<Path>) -> Result<Namespace, Error> {
        let path = path.as_ref();
        let fd = File::open(path)
            .map_err(|e| Error::new("open the network namespace", path.display().to_string(), e))?;
        Ok(Namespace { fd })
    }

    /// Device and inode of the namespace: equal for two fds of one namespace.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn id(&self) -> Result<(u64, u64), Error> {
        let meta = self.fd.metadata().map_err(|e| Error::new("identify", "a network namespace", e))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Runs `f` on a fresh thread inside the namespace and gives its result. What `f` opens there (sockets)
    /// keeps belonging to the namespace. A panic of `f` goes on in the caller.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN here and in the user namespace that owns it; EAGAIN without a thread.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        const THIS: &str = "a network namespace";
        on_fresh_thread(|| {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::new("enter", THIS, errno))?;
            Ok(f())
        })
        .map_err(|e| Error::new("start a thread in", THIS, e))?
    }

    /// Starts `command` inside the namespace: a child is born into the namespace of the thread that makes it.
    ///
    /// # Errors
    /// Those of [`Namespace::enter`] and of [`Command::spawn`].
    pub fn run(&self, command: &mut Command) -> Result<Child, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.enter(move || command.spawn())?.map_err(|e| Error::new("run", name, e))
    }

    /// An rtnetlink socket of the namespace, to be used from any thread.
    ///
    /// # Errors
    /// Those of [`Namespace::enter`] and [`Rtnl::open`].
    pub fn rtnl(&self) -> Result<Rtnl, Error> {
        self.enter(Rtnl::open)?
    }

    /// Makes a veth pair in the namespace, both ends up, IPv6 off before that: the kernel sends nothing on
    /// it by itself (router solicitations and multicast reports would disturb counts).
    ///
    /// # Errors
    /// Those of [`Rtnl::create_veth`] and [`Rtnl::set_up`].
    pub fn veth_pair(&self, a: &str, b: &str) -> Result<(), Error> {
        let mut rtnl = self.rtnl()?;
        rtnl.create_veth(a, b)?;
        self.silence(&mut rtnl, a)?;
        self.silence(&mut rtnl, b)?;
        rtnl.set_up(a)?;
        rtnl.set_up(b)
    }

    /// Keeps IPv6 from sending on `name` by itself once it is up. `rtnl` is one of this namespace.
    ///
    /// # Errors
    /// Those of [`Rtnl::set_no_link_local`] where /proc/sys is read-only, and of [`Namespace::disable_ipv6`].
    pub fn silence(&self, rtnl: &mut Rtnl, name: &str) -> Result<(), Error> {
        self.disable_ipv6(name).or_else(|e| match e.errno() {
            // /proc/sys is mounted read-only in most containers.
            Some(nix::errno::Errno::EROFS | nix::errno::Errno::EACCES) => rtnl.set_no_link_local(name),
            _ => Err(e),
        })
    }

    /// Turns IPv6 off on `name`, and for the namespace's other interfaces, present and future.
    ///
    /// # Errors
    /// EROFS where /proc/sys is read-only, EACCES without rights over the namespace. A kernel without IPv6
    /// is no error.
    pub fn disable_ipv6(&self, name: &str) -> Result<(), Error> {
        self.enter(|| {
            for which in ["all", "default", name] {
                // /proc/sys/net is that of the thread which opens it.
                let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                match std::fs::write(&path, "1") {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::new("turn IPv6 off by", path, e));
                    }
                    _ => {}
                }
            }
            Ok(())
        })?
    }
}

impl From<OwnedFd> for Namespace {
    /// Takes an fd of /proc/PID/ns/net; a wrong one shows when the namespace is entered (EINVAL).
    fn from(fd: OwnedFd) -> Namespace {
        Namespace { fd: File::from(fd) }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn on_fresh_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|threads| {
        let thread = Builder::new().name("netns".into()).spawn_scoped(threads, f)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn names(namespace: &Namespace) -> Vec<String> {
        namespace.rtnl().unwrap().list().unwrap().into_iter().map(|link| link.name).collect()
    }

    #[test]
    fn a_new_namespace_has_lo_up_and_nothing_else() {
        let ns = Namespace::new().unwrap();
        let links = ns.rtnl().unwrap().list().unwrap();
        assert_eq!(links.len(), 1);
        assert!(links[0].name == "lo" && links[0].up);
        // lo carries traffic: it has its address.
        ns.enter(|| std::net::UdpSocket::bind("127.0.0.1:0").map(drop)).unwrap().unwrap();
    }

    #[test]
    fn the_calling_thread_stays_where_it_is() {
        let before = Namespace::of_this_thread().unwrap().id().unwrap();
        let ns = Namespace::new().unwrap();
        let inside = ns.enter(|| Namespace::of_this_thread().unwrap().id().unwrap()).unwrap();
        assert_eq!(inside, ns.id().unwrap());
        assert_ne!(inside, before);
        assert_eq!(Namespace::of_this_thread().unwrap().id().unwrap(), before);
    }

    #[test]
    fn a_thread_is_found_by_its_tid() {
        let ns = Namespace::new().unwrap();
        let found =
            ns.enter(|| Namespace::from_pid_tid(nix::unistd::gettid().as_raw()).unwrap().id().unwrap());
        assert_eq!(found.unwrap(), ns.id().unwrap());
        let none = Namespace::from_pid_tid(i32::MAX).unwrap_err();
        assert_eq!(none.errno(), Some(nix::errno::Errno::ENOENT));
    }

    #[test]
    fn a_command_runs_inside() {
        let ns = Namespace::new().unwrap();
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net").stdout(Stdio::piped());
        let out = ns.run(&mut command).unwrap().wait_with_output().unwrap();
        let link = String::from_utf8(out.stdout).unwrap();
        assert_eq!(link.trim(), format!("net:[{}]", ns.id().unwrap().1));
        let missing = ns.run(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(missing.errno(), Some(nix::errno::Errno::ENOENT));
        assert!(missing.to_string().contains("/nonexistent/program"), "{missing}");
    }

    #[test]
    fn a_veth_pair_is_up_and_silent() {
        let ns = Namespace::new().unwrap();
        ns.veth_pair("veth0", "veth1").unwrap();
        assert_eq!(names(&ns), ["lo", "veth1", "veth0"]);
        assert!(ns.rtnl().unwrap().list().unwrap().iter().all(|link| link.up));
        for name in ["veth0", "veth1"] {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            let value = ns.enter(|| std::fs::read_to_string(&path)).unwrap();
            assert!(value.is_err() || value.unwrap().trim() == "1");
        }
        let error = ns.veth_pair("veth0", "veth2").unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::EEXIST));
    }

    #[test]
    fn where_proc_sys_is_read_only_the_link_local_address_is_turned_off() {
        let ns = Namespace::new().unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        rtnl.create_veth("va", "vb").unwrap();
        rtnl.set_no_link_local("va").unwrap();
        rtnl.set_up("va").unwrap();
        rtnl.set_up("vb").unwrap();
        let addresses = ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap());
        let addresses = addresses.unwrap();
        assert!(!addresses.lines().any(|line| line.ends_with(" va")), "{addresses}");
        assert!(addresses.lines().any(|line| line.ends_with(" vb")), "the other has one: {addresses}");
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn a_panic_inside_goes_on_outside() {
        Namespace::new().unwrap().enter(|| panic!("from inside")).unwrap()
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let not = Namespace::from(OwnedFd::from(File::open("/dev/null").unwrap()));
        let error = not.enter(|| ()).unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::EINVAL), "{error}");
    }
}

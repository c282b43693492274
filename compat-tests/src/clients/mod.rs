//! `bpfdev-compat clients`: BSD programs that others wrote, built against our headers and run on the device.
//!
//! Each is fetched at a fixed version, built in a cache outside the tree ([`cache`], `compat-tests/clients/NAME/build`), and
//! run between two hosts of its own ([`host`]), beside what shows whether it is right: the other host's kernel, or the same
//! program on Linux's own libpcap.

pub mod arp_scan;
pub mod cache;
pub mod host;
pub mod isc_dhcp;
pub mod kernel;
pub mod pnet_datalink;
pub mod process;
pub mod scapy;
pub mod smoltcp;
pub mod tcpdump;
pub mod testprogs;
pub mod traffic;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use crate::cli::UsageError;
use crate::place::Front;
use cache::{Build, Cache, Obtained};
use host::Stage;

/// Run real BSD programs on the device
///
/// Each client is built from its published source outside the tree (BPFDEV_CLIENTS_CACHE, default ~/.cache/bpfdev-clients)
/// and run between two network namespaces on a veth pair. One that cannot be fetched or built is skipped, with its reason.
/// The last line is `N passed, M failed, K skipped`.
#[derive(Debug, clap::Args)]
pub struct ClientsArgs {
    /// Run only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Fail where one of these is skipped
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    require: Vec<String>,
    /// Fail where more clients are skipped [default: any number may be]
    #[arg(long, value_name = "N")]
    max_skipped: Option<usize>,
    /// How the device is served to them: in a private /dev, or as this machine's /dev/bpf
    #[arg(long, value_enum, default_value = "fuse")]
    front: Front,
    /// Leave out the checks whose name begins so; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    except: Vec<String>,
    /// List the clients, and run none
    #[arg(long)]
    list: bool,
    /// Build what is not in the cache, and run none
    #[arg(long, conflicts_with = "list")]
    build: bool,
}

/// A program that others wrote.
#[derive(Debug)]
pub struct Client {
    /// Its name on the command line.
    pub name: &'static str,
    /// The version that is built.
    pub version: &'static str,
    /// What of it must be changed to run on Linux.
    pub change: &'static str,
    /// What is built for it, in order.
    pub builds: &'static [&'static Build],
    /// Runs it.
    pub check: fn(&Stage, &mut Checks) -> anyhow::Result<()>,
}

/// Every client, in the order in which they run.
pub const CLIENTS: &[&Client] = &[
    &tcpdump::CLIENT,
    &testprogs::CLIENT,
    &scapy::CLIENT,
    &isc_dhcp::CLIENT,
    &pnet_datalink::CLIENT,
    &smoltcp::CLIENT,
    &arp_scan::CLIENT,
];

/// The checks of one client as they are made.
#[derive(Debug)]
pub struct Checks {
    client: &'static str,
    except: Vec<String>,
    passed: usize,
    failed: usize,
}

impl Checks {
    /// Makes one check, and says how it went, or that it is left out. A failure does not end the client's others.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<()>) {
        if self.except.iter().any(|except| name.starts_with(except)) {
            println!("left out {}: {name}", self.client);
            return;
        }
        let begin = Instant::now();
        let result = check();
        let seconds = begin.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {}: {name} ({seconds:.1} s)", self.client);
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {}: {name}: {error:#}", self.client);
            }
        }
    }

    /// Makes one check that measures something, and shows what.
    pub fn measure(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<String>) {
        let mut measured = None;
        self.check(name, || {
            measured = Some(check()?);
            Ok(())
        });
        if let Some(text) = measured {
            println!("        {}: {text}", self.client);
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// [`UsageError`] for a name that is no client's; a cache that cannot be used.
pub fn run(args: &ClientsArgs) -> anyhow::Result<ExitCode> {
    let chosen = choose(args)?;
    if args.list {
        for client in chosen {
            println!("{:<20} {:<10} change: {}", client.name, client.version, client.change);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let cache = Cache::open()?;
    let (mut passed, mut failed, mut skipped) = (0, 0, BTreeSet::new());
    for client in chosen {
        let built = match cache.obtain(client.builds)? {
            Obtained::Built(built) => built,
            Obtained::Not { build, reason } => {
                println!("skipped {}: {build} cannot be built here: {reason}", client.name);
                skipped.insert(client.name);
                continue;
            }
        };
        let mut checks = Checks { client: client.name, except: args.except.clone(), passed: 0, failed: 0 };
        if args.build {
            checks.check("built", || Ok(()));
        } else if let Err(error) =
            Stage::new(built, args.front).and_then(|stage| (client.check)(&stage, &mut checks))
        {
            checks.check("run", || Err(error));
        }
        if checks.passed + checks.failed == 0 {
            checks.check("run", || anyhow::bail!("nothing was checked"));
        }
        passed += checks.passed;
        failed += checks.failed;
    }
    for name in args.require.iter().filter(|name| skipped.contains(name.as_str())) {
        println!("{name} was skipped, and --require wants it");
        failed += 1;
    }
    println!("{passed} passed, {failed} failed, {} skipped", skipped.len());
    let within = args.max_skipped.is_none_or(|most| skipped.len() <= most);
    Ok(if failed == 0 && within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The clients that are asked for, and those that are required.
fn choose(args: &ClientsArgs) -> Result<Vec<&'static Client>, UsageError> {
    let mut wanted: BTreeSet<_> = args.names.iter().map(String::as_str).collect();
    let required: BTreeSet<_> = args.require.iter().map(String::as_str).collect();
    let known = |name: &&str| CLIENTS.iter().any(|client| client.name == *name);
    if let Some(name) = wanted.union(&required).find(|name| !known(name)) {
        let names: Vec<_> = CLIENTS.iter().map(|client| client.name).collect();
        return Err(UsageError(format!("no client is called {name}; there are {}", names.join(", "))));
    }
    let all = wanted.is_empty();
    wanted.extend(required);
    Ok(CLIENTS.iter().copied().filter(|client| all || wanted.contains(client.name)).collect())
}

//! Clients built from their published sources, kept outside the tree.
//!
//! A build is a directory of the cache: what was built from (`recipe`: the script, what it uses and our headers, byte for
//! byte), what came of it (`out`) and what was said meanwhile (`log`). It is made anew when the recipe is another.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use super::process::wait;

/// One script in compat-tests/clients, and what it needs.
#[derive(Debug)]
pub struct Build {
    /// The directory of `compat-tests/clients` that holds the script `build`.
    pub name: &'static str,
    /// It is compiled against our headers: another header is another build.
    pub headers: bool,
    /// What is built before; the script finds it as `$BUILT_name`, with `_` for `-`.
    pub needs: &'static [&'static Build],
}

/// What came of the builds: directories by the builds' names.
#[derive(Debug, Default)]
pub struct Built(BTreeMap<&'static str, PathBuf>);

impl Built {
    /// Where the build of this name installed.
    ///
    /// # Errors
    /// The client does not say that it needs this build.
    pub fn dir(&self, name: &str) -> anyhow::Result<&Path> {
        self.0
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("{name} is not among the client's builds"))
    }
}

/// What [`Cache::obtain`] came to.
#[derive(Debug)]
pub enum Obtained {
    /// All is there.
    Built(Built),
    /// One cannot be had here.
    Not {
        /// Which.
        build: &'static str,
        /// Why.
        reason: String,
    },
}

/// The exit status of a script that says why it cannot be had: EX_TEMPFAIL.
const CANNOT: i32 = 75;

/// How long a build may take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Lines of a failed build's log that are its reason.
const LINES: usize = 4;

/// The cache, locked against other runs.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    clients: PathBuf,
    include: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Opens the cache, and waits until no other run uses it.
    ///
    /// # Errors
    /// A directory that cannot be made; a program that was moved away from its source tree.
    pub fn open() -> anyhow::Result<Cache> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (clients, include) = (tree.join("clients"), tree.join("../bpfdev/include"));
        let include = include.canonicalize().with_context(|| {
            format!(
                "{}: the clients are built from the source tree this program was built in",
                include.display()
            )
        })?;
        let root = root()?;
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        let path = root.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).or_else(|(file, _)| {
            eprintln!("waiting for another run that uses {}", root.display());
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)
        });
        let lock = lock.with_context(|| format!("locking {}", path.display()))?;
        Ok(Cache { root, clients, include, _lock: lock })
    }

    /// Builds what is not there yet.
    ///
    /// # Errors
    /// The cache cannot be written, or a script is missing.
    pub fn obtain(&self, builds: &[&'static Build]) -> anyhow::Result<Obtained> {
        let mut built = Built::default();
        for build in in_order(builds) {
            match self.one(build, &built)? {
                Ok(out) => built.0.insert(build.name, out),
                Err(reason) => return Ok(Obtained::Not { build: build.name, reason }),
            };
        }
        Ok(Obtained::Built(built))
    }

    /// The directory where it installed, or why it cannot be had.
    fn one(&self, build: &Build, built: &Built) -> anyhow::Result<Result<PathBuf, String>> {
        let home = self.root.join(build.name);
        let (recipe_file, out) = (home.join("recipe"), home.join("out"));
        let recipe = self.recipe(build)?;
        if fs::read(&recipe_file).is_ok_and(|of| of == recipe) {
            return Ok(Ok(out));
        }
        eprintln!("building {} (log: {})", build.name, home.join("log").display());
        remove(&home)?;
        let work = home.join("work");
        for dir in [&work, &out] {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        if let Err(reason) = self.script(build, built, &home)? {
            return Ok(Err(reason));
        }
        remove(&work)?;
        fs::write(&recipe_file, recipe).with_context(|| recipe_file.display().to_string())?;
        Ok(Ok(out))
    }

    /// Runs the script.
    fn script(&self, build: &Build, built: &Built, home: &Path) -> anyhow::Result<Result<(), String>> {
        let path = home.join("log");
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        let mut script = Command::new(self.clients.join(build.name).join("build"));
        script.current_dir(home.join("work")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        script.env("CLIENTS", &self.clients).env("OUT", home.join("out"));
        script.env("INCLUDE", &self.include).env("COMPAT_INCLUDE", self.include.join("compat"));
        for (name, out) in &built.0 {
            script.env(format!("BUILT_{}", name.replace('-', "_")), out);
        }
        // cargo's settings are for this workspace
        script.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        let mut child = script.spawn().with_context(|| format!("starting {:?}", script.get_program()))?;
        let status = wait(&mut child, PATIENCE)?;
        let said = fs::read(&path).with_context(|| path.display().to_string())?;
        let said = String::from_utf8_lossy(&said);
        let last = |count| {
            let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            lines[lines.len().saturating_sub(count)..].join(" | ")
        };
        Ok(match status {
            Some(status) if status.success() => Ok(()),
            Some(status) if status.code() == Some(CANNOT) => Err(last(1)),
            Some(status) => Err(format!("{status}: {} (all of it: {})", last(LINES), path.display())),
            None => Err(format!("not done in {} s ({})", PATIENCE.as_secs(), path.display())),
        })
    }

    /// All that the build depends on.
    fn recipe(&self, build: &Build) -> anyhow::Result<Vec<u8>> {
        let mut recipe = Vec::new();
        append(&mut recipe, &self.clients.join("lib.sh"))?;
        append(&mut recipe, &self.clients.join(build.name))?;
        if build.headers {
            append(&mut recipe, &self.include)?;
        }
        for needed in build.needs {
            recipe.extend(self.recipe(needed)?);
        }
        Ok(recipe)
    }
}

/// Where the cache is.
fn root() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = set("BPFDEV_CLIENTS_CACHE") {
        return std::path::absolute(root).context("BPFDEV_CLIENTS_CACHE");
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    match cache {
        Some(cache) => Ok(cache.join("bpfdev-clients")),
        None => bail!("no HOME: set BPFDEV_CLIENTS_CACHE to the directory to build in"),
    }
}

/// The builds, each after what it needs.
fn in_order(builds: &[&'static Build]) -> Vec<&'static Build> {
    let mut order: Vec<&'static Build> = Vec::new();
    for build in builds {
        for each in in_order(build.needs).into_iter().chain([*build]) {
            if !order.iter().any(|other| other.name == each.name) {
                order.push(each);
            }
        }
    }
    order
}

/// Appends a file, or the files of a directory in the order of their names, each with its name.
fn append(recipe: &mut Vec<u8>, path: &Path) -> anyhow::Result<()> {
    let on = || path.display().to_string();
    if path.is_dir() {
        let entries: Result<Vec<_>, _> = fs::read_dir(path).with_context(on)?.collect();
        let mut paths: Vec<_> = entries.with_context(on)?.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        return paths.iter().try_for_each(|path| append(recipe, path));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let content = fs::read(path).with_context(on)?;
    recipe.extend(format!("== {name} {}\n", content.len()).bytes());
    recipe.extend(content);
    Ok(())
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

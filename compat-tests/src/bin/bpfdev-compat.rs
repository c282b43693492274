//! `bpfdev-compat`: see README.md.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    bpfdev_compat::cli::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("bpfdev-compat: runs on Linux only");
    std::process::exit(1);
}

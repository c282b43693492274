//! `bpfdev-compat`: see README.md.

fn main() -> std::process::ExitCode {
    bpfdev_compat::cli::main()
}

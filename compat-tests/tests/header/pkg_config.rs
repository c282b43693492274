//! The pkg-config files, filled in as on installation, and programs built with what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BODY, INCLUDE, WARNINGS, run, scratch, write};

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpfdev/dist");

/// The headers as `.ci/deb` installs them, and both files beside them.
fn installed(test: &str) -> PathBuf {
    let prefix = scratch(test);
    fs::create_dir(prefix.join("include")).expect("directory");
    let mut cp = Command::new("cp");
    let copied = run(cp.arg("-r").arg(INCLUDE).arg(prefix.join("include/bpfdev")), "coreutils");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    for name in ["bpfdev.pc", "bpfdev-compat.pc"] {
        let template = fs::read_to_string(format!("{DIST}/{name}.in")).expect(name);
        let filled = template
            .replace("@PREFIX@", &prefix.to_string_lossy())
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
        assert!(!filled.contains('@'), "{filled}");
        write(&prefix.join(name), &filled);
    }
    prefix
}

fn ask(prefix: &Path, what: &str, package: &str) -> String {
    let mut command = Command::new("pkg-config");
    command.args([what, package]).env("PKG_CONFIG_PATH", prefix);
    let output = run(&mut command, "pkgconf");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn it_finds_the_installed_headers() {
    let prefix = installed("pc");
    assert_eq!(ask(&prefix, "--modversion", "bpfdev"), env!("CARGO_PKG_VERSION"));
    let cflags = ask(&prefix, "--cflags", "bpfdev");
    assert_eq!(cflags, format!("-I{}/include/bpfdev", prefix.display()));

    // With these flags alone; and through C_INCLUDE_PATH, for a Makefile that ignores CPPFLAGS.
    let file = prefix.join("client.c");
    write(&file, &format!("#include <net/bpf.h>\n#include \"{BODY}\"\n"));
    let mut command = Command::new("cc");
    let output = run(command.args(WARNINGS).args(["-fsyntax-only", &cflags]).arg(&file), "gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let system = Command::new("cc")
        .args(WARNINGS)
        .arg("-fsyntax-only")
        .arg(&file)
        .env("C_INCLUDE_PATH", prefix.join("include/bpfdev"))
        .output()
        .expect("cc ran a moment ago");
    assert!(system.status.success(), "{}", String::from_utf8_lossy(&system.stderr));
}

/// A BSD's way to an interface's link-level address, and the device's own header beside it.
const ADDRESSES: &str = r#"
#include <sys/types.h>
#include <sys/socket.h>
#include <net/bpf.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/if_dl.h>
#include <net/if_types.h>
#include <net/ethertypes.h>
#include <sys/sockio.h>
#include <sys/ioccom.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    struct ifaddrs *all, *one;
    if (getifaddrs(&all) != 0)
        return 2;
    for (one = all; one; one = one->ifa_next) {
        const struct sockaddr_dl *link = (const void *)one->ifa_addr;
        if (!link || link->sdl_family != AF_LINK || strcmp(one->ifa_name, "lo") != 0)
            continue;
        printf("%d %d %d %d %x\n", link->sdl_index, link->sdl_type == IFT_LOOP, link->sdl_alen,
            CLLADDR(link)[0] | CLLADDR(link)[5], (unsigned)_IOC_TYPE(BIOCSETF));
    }
    freeifaddrs(all);
    return 0;
}
"#;

#[test]
fn a_bsd_program_is_built_with_the_compatibility_headers() {
    let prefix = installed("pc-compat");
    let cflags = ask(&prefix, "--cflags", "bpfdev-compat");
    let include = format!("{}/include/bpfdev", prefix.display());
    assert_eq!(cflags, format!("-I{include}/compat -I{include}"), "its own and those of bpfdev");
    let (file, program) = (prefix.join("addresses.c"), prefix.join("addresses"));
    write(&file, ADDRESSES);
    let build = |flags: &str| {
        let mut command = Command::new("cc");
        command.args(WARNINGS).args(flags.split_whitespace()).arg("-o").arg(&program).arg(&file);
        run(&mut command, "gcc")
    };
    let without = build(&ask(&prefix, "--cflags", "bpfdev"));
    assert!(String::from_utf8_lossy(&without.stderr).contains("net/if_dl.h"), "they are apart");
    let output = build(&cflags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = run(&mut Command::new(&program), "gcc");
    // lo is interface 1 of every network namespace, an IFT_LOOP with six bytes of zeros; requests are of group 'B'
    assert_eq!(String::from_utf8_lossy(&said.stdout), "1 1 6 0 42\n");
}

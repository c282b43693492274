//! The C headers `net/bpf.h` and `net/dlt.h`, against the compilers and the recorded ABI, in every dialect.
//!
//! Nothing is linked, and next to nothing run: `-fsyntax-only`, many files a call. `abi.json` gives the numbers.

#![allow(missing_docs)]

mod assertions;
mod decided;
mod dialect;
mod pkg_config;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dialect::{ALL, Dialect, LINUX, Model};

const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpfdev/include");
const BODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/header_use.h");
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// What both of our `#error` lines say.
const REFUSAL: &str = "include them in separate source files";

/// A compiler, the Debian package that has it, the suffix of its source files, its language levels.
struct Compiler {
    name: &'static str,
    package: &'static str,
    suffix: &'static str,
    standards: &'static [&'static str],
}

const C: &[&str] = &["c99", "c11", "c17", "gnu99", "gnu17"];
const CXX: &[&str] = &["c++17", "gnu++17"];
const COMPILERS: [Compiler; 4] = [
    Compiler { name: "gcc", package: "gcc", suffix: "c", standards: C },
    Compiler { name: "clang", package: "clang", suffix: "c", standards: C },
    Compiler { name: "g++", package: "g++", suffix: "cc", standards: CXX },
    Compiler { name: "clang++", package: "clang", suffix: "cc", standards: CXX },
];

/// Orders of includes: the obstacle table, and the BSD manual pages' own order.
/// `linux/if.h` before `net/if.h` is glibc's own conflict, with us or without.
const ORDERS: &[&[&str]] = &[
    &["net/bpf.h"],
    &["net/bpf.h", "net/bpf.h", "net/dlt.h"],
    &["net/dlt.h", "net/bpf.h"],
    &["sys/types.h", "sys/time.h", "sys/ioctl.h", "sys/socket.h", "net/bpf.h", "net/if.h"],
    &["sys/param.h", "sys/ioctl.h", "net/if.h", "net/bpf.h"],
    &["net/bpf.h", "sys/ioctl.h"],
    &["net/bpf.h", "linux/if.h"],
    &["linux/if.h", "net/bpf.h"],
    &["net/if.h", "linux/if.h", "net/bpf.h"],
    &["net/bpf.h", "net/if.h", "linux/if.h"],
    &["net/bpf.h", "linux/filter.h"],
    &["linux/filter.h", "net/bpf.h"],
    &["net/bpf.h", "net/ethernet.h", "netinet/in.h", "netpacket/packet.h", "linux/if_ether.h"],
    &["pcap.h", "net/bpf.h"],
    &["net/bpf.h", "pcap.h"],
    &["sys/types.h", "pcap/bpf.h", "net/bpf.h"],
    &["net/bpf.h", "pcap/bpf.h"],
    &["net/dlt.h", "pcap.h", "net/bpf.h"],
    &["pcap/dlt.h", "net/bpf.h", "pcap.h"],
    &["pcap.h", "linux/filter.h", "net/bpf.h", "net/if.h"],
    &["linux/filter.h", "net/bpf.h", "pcap.h", "linux/if.h"],
    &["net/bpf.h", "pcap.h", "linux/filter.h", "net/if.h"],
    &["linux/if.h", "linux/filter.h", "pcap.h", "net/bpf.h"],
];

/// An empty directory of this test alone.
fn scratch(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{test}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("scratch directory");
    dir
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Runs a tool; that it is missing is a failure which names the package.
fn run(command: &mut Command, package: &str) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .env_remove("C_INCLUDE_PATH")
        .env_remove("CPLUS_INCLUDE_PATH")
        .env_remove("CPATH")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}: apt-get install {package}"))
}

/// The compiler's call for these files; its diagnostics, empty when it had nothing to say.
fn check(compiler: &str, package: &str, flags: &[&str], files: &[PathBuf]) -> String {
    let mut command = Command::new(compiler);
    command.args(WARNINGS).args(flags).arg("-fsyntax-only").arg("-I").arg(INCLUDE).args(files);
    let output = run(&mut command, package);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{command:?}\n{said}");
    said
}

#[track_caller]
fn accepts(compiler: &str, package: &str, flags: &[&str], files: &[PathBuf]) {
    let said = check(compiler, package, flags, files);
    assert!(
        said.is_empty(),
        "{compiler} {flags:?} (headers missing? apt-get install {package} libc6-dev linux-libc-dev libpcap-dev)\n{said}"
    );
}

fn includes(headers: &[&str]) -> String {
    headers.iter().fold(String::new(), |text, header| text + &format!("#include <{header}>\n"))
}

/// The compiler's call for these files in this dialect.
#[track_caller]
fn accepts_as(dialect: Dialect, compiler: &Compiler, flags: &[&str], files: &[PathBuf]) {
    let package = if flags.contains(&"-m32") { "gcc-multilib" } else { compiler.package };
    accepts(compiler.name, package, &[dialect.flags, flags].concat(), files);
}

#[test]
fn every_order_of_includes_compiles_without_a_warning() {
    let dir = scratch("orders");
    // a compiler a thread: it is their time that is spent here
    std::thread::scope(|scope| {
        for compiler in &COMPILERS {
            let dir = &dir;
            scope.spawn(move || every_order_of_includes(compiler, dir));
        }
    });
}

fn every_order_of_includes(compiler: &Compiler, dir: &Path) {
    let (mut plain, mut with_pcap) = (Vec::new(), Vec::new());
    for headers in ORDERS {
        let name = format!("{}-{}.{}", compiler.name, headers.join("+").replace('/', "_"), compiler.suffix);
        let file = dir.join(name);
        write(&file, &format!("{}#include \"{BODY}\"\n", includes(headers)));
        let needs_u_int = headers.iter().any(|header| header.starts_with("pcap"));
        if needs_u_int { &mut with_pcap } else { &mut plain }.push(file);
    }
    // macos-private has all of macos
    for dialect in ALL.into_iter().filter(|dialect| dialect.name != "macos") {
        // what differs between dialects is written in the same C: the strictest and the laxest level will do
        let (first, last) = (compiler.standards[0], compiler.standards[compiler.standards.len() - 1]);
        let ends: &[&str] = if compiler.suffix == "c" { &[first, last] } else { &[first] };
        let standards = if dialect.is_linux() { compiler.standards } else { ends };
        for standard in standards {
            let std = format!("-std={standard}");
            accepts_as(dialect, compiler, &[&std], &plain);
            // <pcap.h> itself uses u_int, which glibc hides in a strictly conforming mode.
            accepts_as(dialect, compiler, &[&std, "-D_DEFAULT_SOURCE"], &with_pcap);
        }
    }
}

#[test]
fn macros_shared_with_linux_and_libpcap_have_the_same_text() {
    // A redefinition inside a system header is not reported: so let them be ordinary ones, as they
    // are for a tcpdump that is built beside its libpcap.
    let dir = scratch("text");
    for (name, package) in [
        ("linux/filter.h", "linux-libc-dev"),
        ("linux/bpf_common.h", "linux-libc-dev"),
        ("pcap/bpf.h", "libpcap-dev"),
        ("pcap/dlt.h", "libpcap-dev"),
    ] {
        let copy = dir.join(name);
        fs::create_dir_all(copy.parent().expect("a parent")).expect("directory");
        fs::copy(Path::new("/usr/include").join(name), &copy)
            .unwrap_or_else(|error| panic!("/usr/include/{name}: {error}: apt-get install {package}"));
    }
    let copies = dir.to_string_lossy();
    for compiler in &COMPILERS {
        let mut files = Vec::new();
        for (index, headers) in [
            ["linux/filter.h", "net/bpf.h"],
            ["net/bpf.h", "linux/filter.h"],
            ["pcap/bpf.h", "net/bpf.h"],
            ["net/bpf.h", "pcap/bpf.h"],
            ["pcap/dlt.h", "net/dlt.h"],
        ]
        .iter()
        .enumerate()
        {
            let file = dir.join(format!("text{index}.{}", compiler.suffix));
            let body = if headers[1] == "net/dlt.h" { "" } else { &format!("#include \"{BODY}\"\n") };
            write(&file, &format!("#include <sys/types.h>\n{}{body}", includes(headers)));
            files.push(file);
        }
        for dialect in ALL {
            accepts_as(dialect, compiler, &["-I", &copies], &files);
        }
    }
}

#[test]
fn linux_bpf_h_is_refused_with_our_words() {
    let dir = scratch("ebpf");
    for compiler in &COMPILERS {
        let case = |name: &str, text: &str| {
            let file = dir.join(format!("{name}.{}", compiler.suffix));
            write(&file, text);
            vec![file]
        };
        let said = |files: &[PathBuf]| check(compiler.name, compiler.package, &[], files);
        let before = case("before", &includes(&["linux/bpf.h", "net/bpf.h"]));
        let after = case("after", &includes(&["net/bpf.h", "linux/bpf.h"]));
        for files in [before, after] {
            let said = said(&files);
            assert!(said.contains(REFUSAL), "{} {files:?}\n{said}", compiler.name);
        }
        // Where a build finds the kernel's file and not our pass-through, the note quotes our line.
        let past = case("past", "#include <net/bpf.h>\n#include \"/usr/include/linux/bpf.h\"\n");
        let said = said(&past);
        assert!(said.contains("cannot be included in one source file"), "{}\n{said}", compiler.name);
        // Alone it is the kernel's header, no more and no less.
        let alone = case("alone", "#include <linux/bpf.h>\nunion bpf_attr header_attr;\n");
        accepts(compiler.name, compiler.package, &[], &alone);
    }
}

#[test]
fn two_dialects_at_once_are_refused_with_our_words() {
    let dir = scratch("two");
    for compiler in &COMPILERS {
        let file = dir.join(format!("two.{}", compiler.suffix));
        for header in ["net/bpf.h", "net/dlt.h"] {
            write(&file, &includes(&[header]));
            let flags = ["-DBPFDEV_ABI_NETBSD", "-DBPFDEV_ABI_OPENBSD"];
            let said = check(compiler.name, compiler.package, &flags, std::slice::from_ref(&file));
            assert!(said.contains("more than one BPFDEV_ABI_ define"), "{} {header}\n{said}", compiler.name);
        }
    }
}

fn standard(compiler: &Compiler) -> &'static str {
    if compiler.suffix == "c" { "-std=gnu11" } else { "-std=c++17" }
}

#[test]
fn numbers_and_layouts_are_those_of_the_recorded_abi() {
    let dir = scratch("abi");
    let model = if cfg!(target_pointer_width = "32") { Model::Ilp32 } else { Model::Lp64 };
    for compiler in &COMPILERS {
        for dialect in ALL {
            let file = dir.join(format!("{}.{}", dialect.name, compiler.suffix));
            write(&file, &assertions::of(dialect, model));
            accepts_as(dialect, compiler, &[standard(compiler)], &[file]);
        }
    }
}

/// Only x86-64 has a second data model in the same compiler.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_sees_the_32_bit_abi() {
    let dir = scratch("ilp32");
    for compiler in &COMPILERS {
        // A program with a 64-bit time_t sends a longer timeval, but reads the same records.
        for (model, time) in [
            (Model::Ilp32, &[] as &[&str]),
            (Model::Ilp32Time64, &["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"]),
        ] {
            for dialect in ALL {
                let file = dir.join(format!("{}-{model:?}.{}", dialect.name, compiler.suffix));
                let flags = [&["-m32", standard(compiler)], time].concat();
                if dialect.is_64_bit_only() {
                    write(&file, &includes(&["net/bpf.h"]));
                    let flags = [dialect.flags, &flags[..]].concat();
                    let said = check(compiler.name, "gcc-multilib", &flags, &[file]);
                    assert!(said.contains("DragonFly is a 64-bit system"), "{} {said}", compiler.name);
                } else {
                    let text = assertions::of(dialect, model) + &format!("#include \"{BODY}\"\n");
                    write(&file, &text);
                    accepts_as(dialect, compiler, &flags, &[file]);
                }
            }
        }
    }
}

#[test]
fn a_dialects_link_types_stand_whatever_pcap_h_said_before_or_says_after() {
    let dir = scratch("dlt-order");
    for dialect in ALL.into_iter().filter(|&dialect| dialect != LINUX) {
        let mut files = Vec::new();
        for (order, headers) in [
            ("alone", &["net/dlt.h"] as &[&str]),
            ("before", &["pcap.h", "net/bpf.h"]),
            ("after", &["net/bpf.h", "pcap.h", "pcap/dlt.h"]),
        ] {
            let file = dir.join(format!("{}-{order}.c", dialect.name));
            write(&file, &(includes(headers) + &assertions::link_types(dialect)));
            files.push(file);
        }
        accepts("gcc", "gcc libpcap-dev", &[dialect.flags, &["-std=gnu11"]].concat(), &files);
    }
}

#[test]
fn a_dialect_defines_no_name_that_its_system_does_not_have() {
    let dir = scratch("names");
    for dialect in ALL {
        let known = decided::names(dialect);
        let ours = names_defined_by("net/bpf.h", dialect, &dir);
        let ours = ours.iter().filter(|name| {
            ["BIOC", "OBIOC", "DLT_", "BPF_D_", "BPF_T_", "BPF_F_", "BPF_DIRECTION", "BPF_FILDROP"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        let strange: Vec<_> = ours.filter(|name| !known.contains(name.as_str())).collect();
        assert!(strange.is_empty(), "{}: {strange:?}", dialect.name);
    }
}

#[test]
fn bintime_is_converted_as_freebsd_does() {
    let dir = scratch("bintime");
    let (source, program) = (dir.join("bintime.c"), dir.join("bintime"));
    // A half is exact; the last fraction of a second rounds down, and must not become the next second.
    write(
        &source,
        r#"#include <net/bpf.h>
#include <stdio.h>
int main(void)
{
	struct bintime half = { 5, (uint64_t)1 << 63 }, last = { 6, ~(uint64_t)0 };
	struct timespec ts;
	struct timeval tv;
	bintime2timespec(&half, &ts);
	bintime2timeval(&half, &tv);
	printf("%ld.%09ld %ld.%06ld ", (long)ts.tv_sec, ts.tv_nsec, (long)tv.tv_sec, (long)tv.tv_usec);
	bintime2timespec(&last, &ts);
	bintime2timeval(&last, &tv);
	printf("%ld.%09ld %ld.%06ld", (long)ts.tv_sec, ts.tv_nsec, (long)tv.tv_sec, (long)tv.tv_usec);
	return 0;
}
"#,
    );
    let mut cc = Command::new("cc");
    let output = run(cc.args(WARNINGS).args(["-I", INCLUDE, "-o"]).arg(&program).arg(&source), "gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&mut Command::new(&program), "gcc");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "5.500000000 5.500000 6.999999999 6.999999");
}

/// Macros defined after a header was included, as the preprocessor sees them, without those that take arguments.
fn names_defined_by(header: &str, dialect: Dialect, dir: &Path) -> BTreeSet<String> {
    let file = dir.join(format!("{}-{}.c", dialect.name, header.replace('/', "_")));
    write(&file, &includes(&[header]));
    let mut gcc = Command::new("gcc");
    let output =
        run(gcc.args(["-E", "-dM", "-I", INCLUDE]).args(dialect.flags).arg(&file), "gcc libpcap-dev");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = list.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    names.filter(|name| !name.contains('(')).map(str::to_owned).collect()
}

/// Of these, link types.
fn link_types(header: &str, dir: &Path) -> BTreeSet<String> {
    let names = names_defined_by(header, LINUX, dir);
    names.into_iter().filter(|name| name.starts_with("DLT_")).collect()
}

#[test]
fn link_types_agree_with_libpcap() {
    // FreeBSD's number differs from libpcap's number on Linux; MATCHING_MAX is the end of either list.
    let differ = ["DLT_SLIP_BSDOS", "DLT_PPP_BSDOS", "DLT_PFSYNC", "DLT_MATCHING_MAX"];
    let dir = scratch("dlt");
    let ours = link_types("net/dlt.h", &dir);
    let libpcap = link_types("pcap/dlt.h", &dir);
    let both: Vec<_> = ours.intersection(&libpcap).filter(|name| !differ.contains(&name.as_str())).collect();
    assert!(both.len() > 190, "only {} names in common", both.len());
    let list = |item: &dyn Fn(&str) -> String| both.iter().map(|name| item(name)).collect::<String>();
    let file = dir.join("agree.c");
    let text = format!(
        "#include <net/dlt.h>\nenum {{\n{}}};\n{}#include <pcap/dlt.h>\n{}",
        list(&|name| format!("OUR_{name} = {name},\n")),
        list(&|name| format!("#undef {name}\n")) + "#undef DLT_MATCHING_MAX\n#undef DLT_CLASS\n",
        list(&|name| format!("_Static_assert(OUR_{name} == {name}, \"{name}\");\n")),
    );
    write(&file, &text);
    accepts("gcc", "gcc", &["-std=gnu11"], &[file]);
}

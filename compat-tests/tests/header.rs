//! The C headers `net/bpf.h` and `net/dlt.h`, against the compilers and the recorded ABI.
//!
//! Nothing is linked or run: `-fsyntax-only`, many files a call. `abi.json` gives the numbers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpfdev/include");
const BODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/header_use.h");
const PC_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpfdev/dist/bpfdev.pc.in");
const ABI: &str = include_str!("../abi.json");
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

/// In abi.json for FreeBSD, but not offered by the header: no device of ours answers it yet.
const NOT_OFFERED: &[&str] = &[
    "BIOCGETBUFMODE",
    "BIOCSETBUFMODE",
    "BIOCGETZMAX",
    "BIOCROTZBUF",
    "BIOCSETZBUF",
    "BIOCGTSTAMP",
    "BIOCSTSTAMP",
    "BIOCSETVLANPCP",
    "BIOCGETIFLIST",
    "BPF_BUFMODE_BUFFER",
    "BPF_BUFMODE_ZBUF",
    "BPF_T_MICROTIME",
    "BPF_T_NANOTIME",
    "BPF_T_BINTIME",
    "BPF_T_NONE",
    "BPF_T_FAST",
    "BPF_T_MONOTONIC",
    "BPF_T_FORMAT_MASK",
    "BPF_T_FLAG_MASK",
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

#[test]
fn every_order_of_includes_compiles_without_a_warning() {
    let dir = scratch("orders");
    for compiler in &COMPILERS {
        let (mut plain, mut with_pcap) = (Vec::new(), Vec::new());
        for headers in ORDERS {
            let file = dir.join(format!("{}.{}", headers.join("+").replace('/', "_"), compiler.suffix));
            write(&file, &format!("{}#include \"{BODY}\"\n", includes(headers)));
            let needs_u_int = headers.iter().any(|header| header.starts_with("pcap"));
            if needs_u_int { &mut with_pcap } else { &mut plain }.push(file);
        }
        for standard in compiler.standards {
            let std = format!("-std={standard}");
            accepts(compiler.name, compiler.package, &[&std], &plain);
            // <pcap.h> itself uses u_int, which glibc hides in a strictly conforming mode.
            let flags = [std.as_str(), "-D_DEFAULT_SOURCE"];
            accepts(compiler.name, compiler.package, &flags, &with_pcap);
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
        ]
        .iter()
        .enumerate()
        {
            let file = dir.join(format!("text{index}.{}", compiler.suffix));
            let text = format!("#include <sys/types.h>\n{}#include \"{BODY}\"\n", includes(headers));
            write(&file, &text);
            files.push(file);
        }
        accepts(compiler.name, compiler.package, &["-I", &copies], &files);
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

fn freebsd() -> Value {
    let abi: Value = serde_json::from_str(ABI).expect("abi.json");
    abi["os"]["freebsd"].clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("abi.json: no {key} in {value}"))
}

/// Assertions about the header as one source text, for C11 and C++, in one data model.
fn assertions(ilp32: bool, long_timeval: bool) -> String {
    let abi = freebsd();
    let mut c = String::from(
        "#include <net/bpf.h>\n#include <net/if.h>\n#ifdef __cplusplus\n#define ASSERT(e) static_assert(e, #e)\n\
         #else\n#define ASSERT(e) _Static_assert(e, #e)\n#endif\n",
    );
    let mut line = |text: String| writeln!(c, "{text}").expect("a String takes all");
    let mut left_out: BTreeSet<&str> = NOT_OFFERED.iter().copied().collect();
    let mut offered = |name: &str| !left_out.remove(name);

    for ioctl in abi["ioctls"].as_array().expect("ioctls") {
        let name = text(ioctl, "name");
        if ioctl["group"] != "B" {
            if name == "FIONREAD" {
                line(format!("ASSERT(BIOCFIONREAD == {});", text(ioctl, "linux_value")));
            }
            continue;
        }
        if let Some(native) = name.strip_suffix("32") {
            // What a 64-bit kernel calls the request of a 32-bit program, for which it is the native one.
            if ilp32 && !(native.ends_with("RTIMEOUT") && long_timeval) {
                line(format!("ASSERT({native} == {});", text(ioctl, "linux_value")));
            }
            continue;
        }
        if !offered(name) {
            line(format!("#ifdef {name}\n#error {name} is offered\n#endif"));
            continue;
        }
        let timeval = text(ioctl, "arg_type") == "struct timeval";
        let value = match name {
            // sizeof(struct ifreq) is 40 on Linux LP64 and 32 everywhere else.
            "BIOCSETIF" if !ilp32 => "0x4028426c",
            "BIOCGETIF" if !ilp32 => "0x8028426b",
            _ if ilp32 && !ioctl["linux_value_ilp32"].is_null() && !(timeval && long_timeval) => {
                text(ioctl, "linux_value_ilp32")
            }
            _ => text(ioctl, "linux_value"),
        };
        line(format!("ASSERT({name} == {value});"));
    }
    line("ASSERT(BIOCSSEESENT == BIOCSDIRECTION);\nASSERT(BIOCGSEESENT == BIOCGDIRECTION);".into());
    line("ASSERT(FIONREAD == 0x541b);\nASSERT(FIONBIO == 0x5421);\nASSERT(FIOASYNC == 0x5452);".into());
    line(
        "#if defined(SIOCGIFMEDIA) || defined(BPF_TIMEVAL)\n#error a name that misleads libpcap\n#endif"
            .into(),
    );
    line("ASSERT(sizeof(struct bpf_ifreq) == sizeof(struct ifreq));".into());

    for name in ["bpf_program", "bpf_insn", "bpf_stat", "bpf_version", "bpf_dltlist", "bpf_hdr"] {
        let mut layout = &abi["structs"][name];
        if ilp32 && !layout["ilp32"].is_null() {
            layout = &layout["ilp32"];
        }
        line(format!("ASSERT(sizeof(struct {name}) == {});", layout["size"]));
        for field in layout["fields"].as_array().expect("fields") {
            let member = text(field, "name");
            if member != "pad" {
                line(format!("ASSERT(offsetof(struct {name}, {member}) == {});", field["offset"]));
                line(format!("ASSERT(sizeof(((struct {name} *)0)->{member}) == {});", field["size"]));
            }
        }
    }
    let record = &abi["bh_hdrlen"][if ilp32 { "native i386" } else { "bpf_hdr (MICROTIME*, NONE)" }];
    line(format!("ASSERT(SIZEOF_BPF_HDR == {});", record["kernel_header_bytes"]));
    line(format!("ASSERT(BPF_ALIGNMENT == {});", record["alignment"]));
    line(format!("ASSERT(BPF_WORDALIGN(1) == {});\nASSERT(BPF_WORDALIGN(0) == 0);", record["alignment"]));

    for (name, value) in abi["constants"].as_object().expect("constants") {
        let model = if ilp32 { "BPF_ALIGNMENT" } else { "BPF_ALIGNMENT_ilp32" };
        if name == model || name == "zbuf_max_pages" {
            continue; // the other data model's; a rule, not a name
        }
        if offered(name) {
            line(format!("ASSERT({} == {value});", name.trim_end_matches("_ilp32")));
        } else {
            line(format!("#ifdef {name}\n#error {name} is offered\n#endif"));
        }
    }
    for (name, value) in abi["dlt"].as_object().expect("dlt") {
        line(format!("ASSERT({name} == {value});"));
    }
    assert!(left_out.is_empty(), "not in abi.json: {left_out:?}");
    c
}

#[test]
fn numbers_and_layouts_are_those_of_the_recorded_abi() {
    let dir = scratch("abi");
    for compiler in &COMPILERS {
        let file = dir.join(format!("lp64.{}", compiler.suffix));
        write(&file, &assertions(cfg!(target_pointer_width = "32"), false));
        let std = if compiler.suffix == "c" { "-std=gnu11" } else { "-std=c++17" };
        accepts(compiler.name, compiler.package, &[std], &[file]);
    }
}

/// Only x86-64 has a second data model in the same compiler.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_sees_freebsd_i386() {
    let dir = scratch("ilp32");
    for compiler in &COMPILERS {
        let std = if compiler.suffix == "c" { "-std=gnu11" } else { "-std=c++17" };
        let package = format!("{} gcc-multilib", compiler.package);
        // A program with a 64-bit time_t sends a longer timeval, but reads the same records.
        let times: [&[&str]; 2] = [&[], &["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"]];
        for (long_timeval, time) in [false, true].into_iter().zip(times) {
            let file = dir.join(format!("ilp32-{long_timeval}.{}", compiler.suffix));
            let text = assertions(true, long_timeval) + &format!("#include \"{BODY}\"\n");
            write(&file, &text);
            accepts(compiler.name, &package, &[&["-m32", std], time].concat(), &[file]);
        }
    }
}

/// Names defined by one header, as the preprocessor sees them.
fn link_types(header: &str, dir: &Path) -> BTreeSet<String> {
    let file = dir.join(format!("{}.c", header.replace('/', "_")));
    write(&file, &includes(&[header]));
    let output = run(Command::new("gcc").args(["-E", "-dM", "-I", INCLUDE]).arg(&file), "gcc libpcap-dev");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = list.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    names.filter(|name| name.starts_with("DLT_") && !name.contains('(')).map(str::to_owned).collect()
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

#[test]
fn pkg_config_finds_the_installed_headers() {
    let prefix = scratch("pc");
    for from in ["net/bpf.h", "net/dlt.h", "linux/bpf.h"] {
        let to = prefix.join("include/bpfdev").join(from);
        fs::create_dir_all(to.parent().expect("a parent")).expect("directory");
        fs::copy(Path::new(INCLUDE).join(from), &to).unwrap_or_else(|error| panic!("{from}: {error}"));
    }
    let template = fs::read_to_string(PC_IN).expect("bpfdev.pc.in");
    let filled = template
        .replace("@PREFIX@", &prefix.to_string_lossy())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    write(&prefix.join("bpfdev.pc"), &filled);

    let ask = |what: &str| {
        let mut command = Command::new("pkg-config");
        command.args([what, "bpfdev"]).env("PKG_CONFIG_PATH", &prefix);
        let output = run(&mut command, "pkgconf");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask("--modversion"), env!("CARGO_PKG_VERSION"));
    let cflags = ask("--cflags");
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

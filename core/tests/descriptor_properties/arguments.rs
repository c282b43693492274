//! Arguments of requests by their layouts: how many bytes go which way, and whose memory is needed.

use bpfdev_core::abi::arg::NoMemory;
use bpfdev_core::abi::{self, Call, CallerMemory, Dir, Response};
use bpfdev_core::errno::Errno;

/// Every row of every dialect, in each encoding it has.
pub fn calls() -> impl Iterator<Item = (&'static str, u32, Call)> {
    abi::ALL.into_iter().flat_map(|abi| {
        abi.requests.iter().flat_map(move |row| {
            abi.encodings.iter().map(move |encoding| {
                let number = encoding.number(row.dir, row.group, row.number, row.arg.size());
                (abi.name, number, abi.decode(number).expect("a row decodes"))
            })
        })
    })
}

#[test]
fn as_many_bytes_go_in_and_out_as_the_number_says() {
    for (system, number, call) in calls() {
        let name = call.row.name;
        // sys/ioccom.h and asm-generic/ioctl.h both have the size from bit 16 on; no argument has 8192 bytes
        let size = (number >> 16 & 0x1fff) as usize;
        let (goes_in, comes_out) = match call.row.dir {
            Dir::Void => (0, 0),
            Dir::In => (size, 0),
            Dir::Out => (0, size),
            Dir::InOut => (size, size),
        };
        assert_eq!((call.arg_in(), call.arg_out()), (goes_in, comes_out), "{system}: {name} {number:#x}");
    }
}

#[test]
fn only_programs_and_lists_of_link_types_need_the_callers_memory() {
    for (system, _, call) in calls() {
        let name = call.row.name;
        // abi.json: bpf_program and bpf_dltlist are the structures with a pointer; NetBSD's BIOCSTCPF and BIOCSUDPF are
        // refused before it is looked at
        let points =
            name.starts_with("BIOCSETF") || name.starts_with("BIOCSETWF") || name.contains("DLTLIST");
        assert_eq!(call.needs_memory(), points, "{system}: {name}");
    }
}

#[test]
fn the_32_bit_layouts_are_those_of_32_bit_callers() {
    for (system, _, call) in calls() {
        let name = call.row.name;
        // FreeBSD's bpfioctl marks a stream as 32-bit for these, and not for the zero-copy requests
        let narrow = name.ends_with("32") && !name.contains("GETZMAX") && !name.contains("ZBUF");
        // NetBSD's programs that are refused: their layout is a 32-bit one all the same
        assert_eq!(call.is_ilp32(), narrow, "{system}: {name}");
    }
}

#[test]
fn memory_that_cannot_be_reached_faults() {
    assert_eq!(NoMemory.read(0x1000, &mut [0; 8]), Err(Errno::Fault));
    assert_eq!(NoMemory.write(0x1000, &[0; 8]), Err(Errno::Fault));
}

/// Remembers what was touched, and reads as zeros.
#[derive(Default)]
struct Touched {
    reads: Vec<(u64, usize)>,
    writes: Vec<(u64, Vec<u8>)>,
}

impl CallerMemory for Touched {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.reads.push((address, buf.len()));
        Ok(())
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.writes.push((address, bytes.to_vec()));
        Ok(())
    }
}

/// A count and a pointer in a structure of so many bytes. abi.json: bpf_program and bpf_dltlist have the pointer at 8 of 16
/// bytes, for 32-bit callers at 4 of 8; macOS's bpf_dltlist a 64-bit one at 4 of 12.
fn counted(size: usize, count: u32, pointer: u64) -> Vec<u8> {
    let narrow = u32::try_from(pointer).expect("fits a 32-bit caller's");
    match size {
        16 => [&count.to_ne_bytes()[..], &[0; 4], &pointer.to_ne_bytes()].concat(),
        12 => [&count.to_ne_bytes()[..], &pointer.to_ne_bytes()].concat(),
        _ => [count.to_ne_bytes(), narrow.to_ne_bytes()].concat(),
    }
}

#[test]
fn a_program_is_read_once_where_it_is_and_not_at_all_where_it_cannot_be() {
    for (system, _, call) in calls().filter(|(_, _, call)| call.row.name.contains("SETF")) {
        let name = call.row.name;
        let touched = |count, pointer| {
            let mut memory = Touched::default();
            let parsed = call.parse(&counted(call.arg_in(), count, pointer), &mut memory);
            assert!(parsed.is_ok() && memory.writes.is_empty(), "{system}: {name}");
            memory.reads
        };
        assert_eq!(touched(3, 0x7fff_1000), [(0x7fff_1000, 24)], "{system}: {name}");
        assert_eq!(touched(512, 8), [(8, 4096)], "{system}: {name}: the longest program");
        for (count, pointer) in [(0, 0x1000), (3, 0), (0, 0), (4097, 0x1000), (u32::MAX, 0x1000)] {
            assert_eq!(touched(count, pointer), [], "{system}: {name}: {count} at {pointer:#x}");
        }
    }
}

#[test]
fn link_types_are_written_where_the_list_is_and_counted_in_bfl_len() {
    for (system, _, call) in calls().filter(|(_, _, call)| call.row.name.contains("DLTLIST")) {
        let name = call.row.name;
        let arg = counted(call.arg_in(), 5, 0x7fff_1000);
        let mut memory = Touched::default();
        let response = Response::DltList { count: Some(2), list: vec![1, 12], error: None };
        let out = call.reply(&response, &arg, &mut memory).expect("room for five");
        let list = [1u32.to_ne_bytes(), 12u32.to_ne_bytes()].concat();
        assert_eq!(memory.writes, [(0x7fff_1000, list)], "{system}: {name}");
        assert_eq!(out, counted(call.arg_in(), 2, 0x7fff_1000), "{system}: {name}");
        assert!(memory.reads.is_empty(), "{system}: {name}");
    }
}

#[test]
fn a_32_bit_caller_sets_half_of_macos_list_pointer() {
    for (system, _, call) in calls() {
        let before = vec![0xaa; call.arg_in()];
        let mut arg = before.clone();
        call.widen(&mut arg);
        if system == "macos" && call.row.name == "BIOCGDLTLIST" {
            // xnu's bpf_getdltlist looks at bfl_u.bflu_pad of such a caller, the first four bytes
            assert_eq!(arg, [[0xaa; 8].as_slice(), &[0; 4]].concat());
        } else {
            assert_eq!(arg, before, "{system}: {}", call.row.name);
        }
    }
}

#[test]
fn answers_in_an_ifreq_are_behind_its_name() {
    let macos = |name: &str| calls().find(|(system, _, call)| *system == "macos" && call.row.name == name);
    let arg: Vec<u8> = (0..32).collect();
    // ifr_ifru begins at 16; a sockaddr's sa_data two bytes further on
    let (_, _, count) = macos("BIOCGIFATTACHCOUNT").expect("a row");
    let out = count.reply(&Response::U32(3), &arg, &mut NoMemory).expect("32 bytes");
    assert_eq!(out, [&arg[..16], &3u32.to_ne_bytes(), &arg[20..]].concat());
    let (_, _, address) = macos("SIOCGIFADDR").expect("a row");
    let out = address.reply(&Response::LinkAddress(vec![2, 0, 0, 0, 0, 9]), &arg, &mut NoMemory);
    assert_eq!(out.expect("32 bytes"), [&arg[..18], &[2, 0, 0, 0, 0, 9], &arg[24..]].concat());
}


// Behind pnet_datalink's bpf.rs, whose receiver is private.

/// Prints the frames of the buffer on stdin, in hexadecimal.
pub fn walk() {
    let mut receiver = DataLinkReceiverImpl {
        fd: Arc::new(pnet_sys::FileDesc { fd: 0 }),
        // SAFETY: an fd_set is bits, of which none is set.
        fd_set: unsafe { mem::zeroed() },
        read_buffer: vec![0; 1 << 16],
        buffer_offset: 0,
        loopback: false,
        timeout: None,
        packets: VecDeque::new(),
    };
    // the second read(2) is of 0 bytes, which is an error there
    while let Ok(frame) = receiver.next() {
        let hex: Vec<_> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}", hex.concat());
    }
}

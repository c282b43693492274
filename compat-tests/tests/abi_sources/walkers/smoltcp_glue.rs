
// Behind smoltcp's bpf.rs, whose constants are private.

/// Prints them.
pub fn constants() {
    crate::show("BIOCSETIF", BIOCSETIF as u64);
    crate::show("BIOCGBLEN", BIOCGBLEN as u64);
    crate::show("BIOCIMMEDIATE", BIOCIMMEDIATE as u64);
    crate::show("BPF_HDRLEN", BPF_HDRLEN as u64);
}

/// Prints what it takes for the first frame in the buffer on stdin, and all behind it, in hexadecimal.
pub fn first() {
    let mut device = BpfDevice { fd: 0, ifreq: ifreq_for("") };
    let mut buffer = vec![0; 1 << 16];
    let read = device.recv(&mut buffer).unwrap();
    let hex: Vec<_> = buffer[..read - BPF_HDRLEN].iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}", hex.concat());
}

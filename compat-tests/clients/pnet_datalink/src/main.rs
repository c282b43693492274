//! A program on pnet_datalink as anyone would write it: one thread receives and one sends, on one channel.
//!
//! usage: pnet-client INTERFACE BUFFER COUNT FRAME…
//!
//! Prints each frame it receives in hexadecimal. Sends each FRAME, given so too, COUNT times, a millisecond apart. Ends
//! with its input.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use pnet_datalink::{Channel, Config};

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(octet).collect()
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let count: usize = arguments[3].parse().unwrap();
    let frames: Vec<_> = arguments[4..].iter().map(|frame| unhex(frame)).collect();
    let interfaces = pnet_datalink::interfaces();
    let interface = interfaces.iter().find(|interface| interface.name == arguments[1]).expect("no such interface");
    let config = Config { read_buffer_size: arguments[2].parse().unwrap(), ..Config::default() };
    let Channel::Ethernet(mut sender, mut receiver) = pnet_datalink::channel(interface, config).expect("channel") else {
        panic!("another kind of channel");
    };
    println!("open");
    thread::spawn(move || loop {
        let frame = receiver.next().expect("receiving");
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", hex(frame)).expect("stdout");
    });
    thread::spawn(move || {
        // the receiver is waiting by now
        thread::sleep(Duration::from_millis(200));
        for frame in &frames {
            for _ in 0..count {
                sender.send_to(frame, None).expect("room for the frame").expect("sending");
                thread::sleep(Duration::from_millis(1));
            }
        }
        println!("sent");
    });
    std::io::stdin().read_to_end(&mut Vec::new()).expect("stdin");
}

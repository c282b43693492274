//! What is done before the program: directions, loopback's packets, the count, and what the machine starts with.

use bpfdev_core::cbpf::code::*;

use super::assemble::Operand;
use super::emit::{Emitter, FAMILY, LEN_FIELD};
use super::insn::*;
use super::{Fields, RECEIVED, Target};
use crate::filter::{ETHERTYPE_IP, ETHERTYPE_IPV6, LinkKind};

const PACKET_OUTGOING: u32 = 4;

impl Emitter<'_> {
    /// What is done before the program; false if it never runs.
    pub(super) fn prologue(&mut self) -> bool {
        let Target { link, hidden, fields } = *self.target;
        self.code.push([alu64(code::MOV.into(), PACKET, R1)]);
        if hidden.counted {
            self.tap(link, fields);
            self.count(RECEIVED);
        }
        if hidden.received && (hidden.sent || matches!(link, LinkKind::Loopback(_))) {
            self.code.goto(self.reject);
            return false;
        }
        if (hidden.received || hidden.sent) && !matches!(link, LinkKind::Loopback(_)) {
            let hide = if hidden.sent { JEQ } else { code::JNE.into() };
            self.code.push([load(R1, PACKET, fields.pkt_type)]);
            self.code.branch(hide, R1, Operand::Imm(PACKET_OUTGOING), self.reject);
        }
        if !hidden.counted {
            self.tap(link, fields);
            self.count(RECEIVED);
        }
        match link {
            LinkKind::Ethernet => {
                self.code.push([load(UNKNOWN, PACKET, fields.vlan_present), alu_imm(NEG, UNKNOWN, 0)]);
            }
            LinkKind::Loopback(_) | LinkKind::Raw => self.code.push([load(UNKNOWN, PACKET, LEN_FIELD)]),
        }
        self.code.push([mov_imm(ACCUMULATOR, 0), mov_imm(INDEX, 0)]);
        let live_in = self.facts.first().map_or(0, |facts| facts.live_in);
        for word in (0..MEMWORDS as u32).filter(|word| live_in >> word & 1 == 1) {
            self.store_word(word, ACCUMULATOR);
        }
        true
    }

    /// Rejects what is no packet to a BSD's tap, uncounted: on loopback the copy of a packet that is sent, and packets
    /// of other families than IP. Finds the family word.
    fn tap(&mut self, link: LinkKind, fields: Fields) {
        let LinkKind::Loopback(framing) = link else { return };
        let known = self.code.label();
        self.code.push([load(R1, PACKET, fields.pkt_type)]);
        self.code.branch(JEQ, R1, Operand::Imm(PACKET_OUTGOING), self.reject);
        self.code.push([load(R1, PACKET, fields.protocol), from_be16(R1)]);
        let word =
            |ethertype| framing.family(ethertype).map(|family| u32::from_be_bytes(framing.header(family)));
        if let (Some(ip), Some(ipv6)) = (word(ETHERTYPE_IP), word(ETHERTYPE_IPV6)) {
            self.code.push([store_imm(FRAME, FAMILY, ip)]);
            self.code.branch(JEQ, R1, Operand::Imm(ETHERTYPE_IP.into()), known);
            self.code.branch(code::JNE.into(), R1, Operand::Imm(ETHERTYPE_IPV6.into()), self.reject);
            self.code.push([store_imm(FRAME, FAMILY, ipv6)]);
        }
        self.code.here(known);
    }

    /// Adds 1 to a counter. Loses R1 and R2.
    pub(super) fn count(&mut self, counter: u32) {
        self.code.push(map_value(R1, counter));
        self.code.push([alu64_imm(code::MOV.into(), R2, 1), atomic_add(R1, 0, R2)]);
    }
}

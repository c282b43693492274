/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/bpf.h> for Linux: what a BSD program needs to talk to /dev/bpf as
 * served by bpfdev.  See bpf(4) of any BSD for the meaning of each request.
 *
 * A define says which system's device the program is compiled for:
 *
 *   BPFDEV_ABI_FREEBSD, BPFDEV_ABI_NETBSD, BPFDEV_ABI_OPENBSD,
 *   BPFDEV_ABI_DRAGONFLY, BPFDEV_ABI_MACOS
 *
 * Request numbers, structures, constants and link types are then that
 * system's own, exactly, and the node to open is its own: .../openbsd/bpf and
 * so on, or any node under bpfdev serve --abi openbsd.
 *
 * Without a define it is the dialect linux, for the nodes of bpfdev serve:
 * FreeBSD's requests, its numbers within group 'B', its structure layouts;
 * only the encoding of a request (direction and size) is Linux's own.
 *
 * This file has what all of them share.  What is one system's, and what of it
 * is left out, is in <bpfdev/openbsd/bpf.h> and so on; <bpfdev/freebsd/bpf.h>
 * is also the dialect linux.
 *
 * It can be included before or after <pcap.h>, <net/if.h>, <linux/if.h> and
 * <linux/filter.h>, and in a strictly conforming mode (-std=c99).  It cannot
 * be combined with <linux/bpf.h>.
 *
 * Left out on purpose, so that a program that tests with #ifdef does the
 * right thing; no dialect has these:
 *   zero copy, and what else the device does not answer: see each system
 *   BPF_TIMEVAL (libpcap would then want IOCPARM_LEN), SIOCGIFMEDIA
 */
#ifdef __LINUX_BPF_H__
#error "<net/bpf.h> and <linux/bpf.h> (eBPF) define different struct bpf_insn: include them in separate source files"
#endif

/* libpcap looks for this very name and then leaves its own <pcap/bpf.h> out. */
#ifndef _NET_BPF_H_
#define _NET_BPF_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/time.h>
#include <sys/ioctl.h>

#include <bpfdev/dialect.h>
#include <bpfdev/ioccom.h>
#include <net/dlt.h>

/* A 32-bit program whose struct timeval has 8 bytes. */
#if !defined(__LP64__) && defined(__TIMESIZE) && __TIMESIZE == 32 && !defined(__USE_TIME_BITS64)
#define _BPFDEV_TIME32
#endif

/* ---- versions ---------------------------------------------------------- */

/* <linux/filter.h> may have been here; its values are for its own socket option. */
#undef BPF_MAJOR_VERSION
#undef BPF_MINOR_VERSION
#undef BPF_MAXINSNS
#undef BPF_MEMWORDS
#undef BPF_STMT
#undef BPF_JUMP

/* <pcap.h> reads this: a header newer than 199406 has the bpf_int32 types. */
#ifndef BPF_RELEASE
#define BPF_RELEASE 199606
#endif

/* The filter language; equal to what BIOCVERSION answers. */
#define BPF_MAJOR_VERSION 1
#define BPF_MINOR_VERSION 1

/* ---- limits ------------------------------------------------------------ */

#define BPF_MAXINSNS 512	/* instructions in a program */
#define BPF_MEMWORDS 16		/* words of scratch memory, M[] */
#define BPF_MINBUFSIZE 32	/* bytes, BIOCSBLEN */

/*
 * A record starts at a multiple of BPF_ALIGNMENT bytes, which is each system's
 * own.  The next one is at p + BPF_WORDALIGN(bh_hdrlen + bh_caplen).  libpcap's
 * value on Linux is 4, for no device of its own; ours replaces it.
 */
#undef BPF_ALIGNMENT
#undef BPF_WORDALIGN
#define BPF_WORDALIGN(x) (((x) + (BPF_ALIGNMENT - 1)) & ~(BPF_ALIGNMENT - 1))

/* ---- structures -------------------------------------------------------- */

#ifndef lib_pcap_bpf_h	/* <pcap/bpf.h> came first and has these four already */

typedef int bpf_int32;
typedef unsigned int bpf_u_int32;

struct bpf_insn { /* redefined? <net/bpf.h> and <linux/bpf.h> cannot be included in one source file */
	unsigned short code;
	unsigned char jt;
	unsigned char jf;
	bpf_u_int32 k;
};

/* BIOCSETF, BIOCSETWF, BIOCSETFNR */
struct bpf_program {
	unsigned int bf_len;		/* instructions; 0 removes the filter */
	struct bpf_insn *bf_insns;
};

#endif /* !lib_pcap_bpf_h */

typedef int64_t bpf_int64;
typedef uint64_t bpf_u_int64;

/* BIOCVERSION */
struct bpf_version {
	unsigned short bv_major;
	unsigned short bv_minor;
};

/*
 * BIOCSETIF and BIOCGETIF.  A struct ifreq of <net/if.h> serves as well and is
 * what BSD programs use; this one is for a strictly conforming mode, where glibc
 * hides struct ifreq.  It has the size the requests say: in the dialect linux
 * that of Linux's struct ifreq; for a BSD 32 bytes, with which Linux's begins.
 */
struct bpf_ifreq {
	char bif_name[16];		/* IFNAMSIZ, ends with a NUL */
#ifdef _BPFDEV_LINUX
	char bif_pad[sizeof(long) == 8 ? 24 : 16];
#else
	char bif_pad[16];
#endif
};

/* ---- one system's structures, requests and constants -------------------- */

#if defined(BPFDEV_ABI_NETBSD)
#include <bpfdev/netbsd/bpf.h>
#elif defined(BPFDEV_ABI_OPENBSD)
#include <bpfdev/openbsd/bpf.h>
#elif defined(BPFDEV_ABI_DRAGONFLY)
#include <bpfdev/dragonfly/bpf.h>
#elif defined(BPFDEV_ABI_MACOS)
#include <bpfdev/macos/bpf.h>
#else
#include <bpfdev/freebsd/bpf.h>
#endif

/* ---- requests of the file layer ------------------------------------------ */

/*
 * BSD's FIONREAD, FIOASYNC, FIOSETOWN and FIOGETOWN, under names of our own.
 * Linux's requests of these names, which <sys/ioctl.h> has, are not for the
 * device: for a file that is not a socket or a tty the kernel answers FIONREAD
 * by itself, with file size minus offset, and FIOASYNC too.  A program that
 * wants the answer of bpf(4) asks with these.
 */
#define BIOCFIONREAD	_BPFDEV_IOR('f', 127, int)	/* bytes that a read would return */
#define BIOCFIOASYNC	_BPFDEV_IOW('f', 125, int)	/* nonzero: send the signal of BIOCSRSIG */
#ifndef BPFDEV_ABI_MACOS /* whose driver has no such requests */
#define BIOCFIOSETOWN	_BPFDEV_IOW('f', 124, int)	/* to this process, or to group -n */
#define BIOCFIOGETOWN	_BPFDEV_IOR('f', 123, int)
#endif

/* ---- instructions ------------------------------------------------------ */
/* Each text is the one of <linux/filter.h> and <pcap/bpf.h>: no redefinition. */

#define BPF_CLASS(code) ((code) & 0x07)
#define BPF_LD 0x00
#define BPF_LDX 0x01
#define BPF_ST 0x02
#define BPF_STX 0x03
#define BPF_ALU 0x04
#define BPF_JMP 0x05
#define BPF_RET 0x06
#define BPF_MISC 0x07

/* ld, ldx: width and addressing mode */
#define BPF_SIZE(code) ((code) & 0x18)
#define BPF_W 0x00
#define BPF_H 0x08
#define BPF_B 0x10
#define BPF_MODE(code) ((code) & 0xe0)
#define BPF_IMM 0x00
#define BPF_ABS 0x20
#define BPF_IND 0x40
#define BPF_MEM 0x60
#define BPF_LEN 0x80
#define BPF_MSH 0xa0

/* alu, jmp: operation and operand */
#define BPF_OP(code) ((code) & 0xf0)
#define BPF_ADD 0x00
#define BPF_SUB 0x10
#define BPF_MUL 0x20
#define BPF_DIV 0x30
#define BPF_OR 0x40
#define BPF_AND 0x50
#define BPF_LSH 0x60
#define BPF_RSH 0x70
#define BPF_NEG 0x80
#if !defined(BPFDEV_ABI_OPENBSD) && !defined(BPFDEV_ABI_MACOS) /* DragonFly: not in 2016, later (u) */
#define BPF_MOD 0x90
#define BPF_XOR 0xa0
#endif
#define BPF_JA 0x00
#define BPF_JEQ 0x10
#define BPF_JGT 0x20
#define BPF_JGE 0x30
#define BPF_JSET 0x40
#define BPF_SRC(code) ((code) & 0x08)
#define BPF_K 0x00
#define BPF_X 0x08

/* ret: BPF_K, BPF_X or the accumulator */
#define BPF_RVAL(code) ((code) & 0x18)
#define BPF_A 0x10

/* misc */
#define BPF_MISCOP(code) ((code) & 0xf8)
#define BPF_TAX 0x00
#define BPF_TXA 0x80

/* Initialisers of a struct bpf_insn. */
#define BPF_STMT(code, k) { (unsigned short)(code), 0, 0, k }
#define BPF_JUMP(code, k, jt, jf) { (unsigned short)(code), jt, jf, k }

#endif /* !_NET_BPF_H_ */

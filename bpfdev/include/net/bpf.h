/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/bpf.h> for Linux: what a BSD program needs to talk to /dev/bpf as
 * served by bpfdev.  See bpf(4) of any BSD for the meaning of each request.
 *
 * The dialect is FreeBSD's: its requests, its numbers within group 'B', its
 * structure layouts.  Only the encoding of a request (direction and size) is
 * Linux's own, because _IOR() and friends of <sys/ioctl.h> make it.
 *
 * On LP64 the layouts are those of FreeBSD/amd64, on ILP32 (-m32) those of
 * FreeBSD/i386, whatever width time_t has.
 *
 * It can be included before or after <pcap.h>, <net/if.h>, <linux/if.h> and
 * <linux/filter.h>, and in a strictly conforming mode (-std=c99).  It cannot
 * be combined with <linux/bpf.h>.
 *
 * Left out on purpose, so that a program that tests with #ifdef does the
 * right thing; none of these is answered by the device:
 *   BIOCGTSTAMP, BIOCSTSTAMP, BPF_T_*, struct bpf_xhdr    time stamp formats
 *   BIOC[GS]ETBUFMODE, BIOC*ZBUF, BIOCGETZMAX, BPF_BUFMODE_*    zero copy
 *   BIOCSETVLANPCP, BIOCGETIFLIST
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

#include <net/dlt.h>

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
#define BPF_MAXBUFSIZE 0x80000	/* bytes, BIOCSBLEN */

/*
 * A record starts at a multiple of BPF_ALIGNMENT bytes.  The next one is at
 * p + BPF_WORDALIGN(bh_hdrlen + bh_caplen).  libpcap's value on Linux is 4,
 * for no device of its own; ours replaces it.
 */
#undef BPF_ALIGNMENT
#undef BPF_WORDALIGN
#define BPF_ALIGNMENT sizeof(long)
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

/* BIOCGSTATS; both wrap around. */
struct bpf_stat {
	unsigned int bs_recv;		/* packets seen by the filter */
	unsigned int bs_drop;		/* packets lost for want of buffer space */
};

/* BIOCVERSION */
struct bpf_version {
	unsigned short bv_major;
	unsigned short bv_minor;
};

/* BIOCGDLTLIST; with bfl_list NULL only bfl_len is written. */
struct bpf_dltlist {
	unsigned int bfl_len;		/* in: room in bfl_list; out: entries */
	unsigned int *bfl_list;
};

/*
 * BIOCSETIF and BIOCGETIF.  The same size as struct ifreq of <net/if.h>, which
 * serves as well and is what BSD programs use; this one is for a strictly
 * conforming mode, where glibc hides struct ifreq.
 */
struct bpf_ifreq {
	char bif_name[16];		/* IFNAMSIZ, ends with a NUL */
	char bif_pad[sizeof(long) == 8 ? 24 : 16];
};

/*
 * The header of each record in the buffer.  Use bh_hdrlen to find the packet:
 * it is SIZEOF_BPF_HDR plus what puts the network header on a word boundary.
 */
#if defined(__LP64__) || (defined(__TIMESIZE) && __TIMESIZE == 32 && !defined(__USE_TIME_BITS64))
#define _BPF_TIMEVAL timeval
#else
/* ILP32 with a 64-bit time_t: the record still holds 32-bit stamps. */
struct bpf_timeval32 {
	int32_t tv_sec;
	int32_t tv_usec;
};
#define _BPF_TIMEVAL bpf_timeval32
#endif

struct bpf_hdr {
	struct _BPF_TIMEVAL bh_tstamp;	/* when it was captured */
	bpf_u_int32 bh_caplen;		/* bytes captured */
	bpf_u_int32 bh_datalen;		/* bytes on the wire */
	unsigned short bh_hdrlen;	/* bytes from here to the packet */
};
#undef _BPF_TIMEVAL

/* Bytes of struct bpf_hdr in use, without the padding of sizeof: 26, on ILP32 18. */
#define SIZEOF_BPF_HDR (offsetof(struct bpf_hdr, bh_hdrlen) + sizeof(unsigned short))

/* ---- requests, in the order of their numbers --------------------------- */

#define BIOCGBLEN	_IOR('B', 102, unsigned int)
#define BIOCSBLEN	_IOWR('B', 102, unsigned int)
#define BIOCSETF	_IOW('B', 103, struct bpf_program)
#define BIOCFLUSH	_IO('B', 104)
#define BIOCPROMISC	_IO('B', 105)
#define BIOCGDLT	_IOR('B', 106, unsigned int)
#define BIOCGETIF	_IOR('B', 107, struct bpf_ifreq)
#define BIOCSETIF	_IOW('B', 108, struct bpf_ifreq)
#define BIOCSRTIMEOUT	_IOW('B', 109, struct timeval)
#define BIOCGRTIMEOUT	_IOR('B', 110, struct timeval)
#define BIOCGSTATS	_IOR('B', 111, struct bpf_stat)
#define BIOCIMMEDIATE	_IOW('B', 112, unsigned int)
#define BIOCVERSION	_IOR('B', 113, struct bpf_version)
#define BIOCGRSIG	_IOR('B', 114, unsigned int)
#define BIOCSRSIG	_IOW('B', 115, unsigned int)
#define BIOCGHDRCMPLT	_IOR('B', 116, unsigned int)
#define BIOCSHDRCMPLT	_IOW('B', 117, unsigned int)
#define BIOCGDIRECTION	_IOR('B', 118, unsigned int)
#define BIOCSDIRECTION	_IOW('B', 119, unsigned int)
#define BIOCSDLT	_IOW('B', 120, unsigned int)
#define BIOCGDLTLIST	_IOWR('B', 121, struct bpf_dltlist)
#define BIOCLOCK	_IO('B', 122)
#define BIOCSETWF	_IOW('B', 123, struct bpf_program)
#define BIOCFEEDBACK	_IOW('B', 124, unsigned int)
#define BIOCSETFNR	_IOW('B', 130, struct bpf_program)

/* The older names: 0 hides what this host sends, 1 shows it. */
#define BIOCGSEESENT	BIOCGDIRECTION
#define BIOCSSEESENT	BIOCSDIRECTION

/* BIOCGDIRECTION, BIOCSDIRECTION */
#define BPF_D_IN 0
#define BPF_D_INOUT 1
#define BPF_D_OUT 2

/*
 * Bytes that a read would return: BSD's FIONREAD, under a name of our own.
 * On Linux FIONREAD of <sys/ioctl.h> never reaches the device: for a file that
 * is not a socket or a tty the kernel answers it by itself, with file size minus
 * offset.  A program that wants the answer of bpf(4) asks with this one.
 */
#define BIOCFIONREAD	_IOR('f', 127, int)

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
#define BPF_MOD 0x90
#define BPF_XOR 0xa0
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

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * FreeBSD's part of <net/bpf.h>: with BPFDEV_ABI_FREEBSD in its own encoding,
 * and without any define, as the dialect linux, in Linux's.
 *
 * Numbers and layouts as in sys/net/bpf.h of FreeBSD 13 to main of 2024-10; on
 * LP64 those of amd64, on ILP32 those of i386, whatever width time_t has.
 * With BPFDEV_ABI_FREEBSD a 32-bit program gets i386's records, as on
 * FreeBSD/amd64, from its first request whose argument has an i386 layout
 * (BIOCSETF, BIOCSETFNR, BIOCSETWF, BIOCGDLTLIST, BIOC[GS]RTIMEOUT), which is
 * to come before BIOCSETIF; in the dialect linux any request will do.
 *
 * Left out: zero copy, for the device reads and writes a caller's memory only
 * during its request (BIOC[GS]ETBUFMODE, BIOCGETZMAX, BIOC*ZBUF, BPF_BUFMODE_*,
 * struct bpf_zbuf, struct bpf_zbuf_header); and BIOCGETIFLIST of FreeBSD 16,
 * whose number and layout we could not verify.
 */
#include <time.h>

#define BPF_MAXBUFSIZE 0x80000	/* bytes, BIOCSBLEN */
#define BPF_ALIGNMENT sizeof(long)

/* BIOCGSTATS; both wrap around. */
struct bpf_stat {
	unsigned int bs_recv;		/* packets seen by the filter */
	unsigned int bs_drop;		/* packets lost for want of buffer space */
};

/* BIOCGDLTLIST; with bfl_list NULL only bfl_len is written. */
struct bpf_dltlist {
	unsigned int bfl_len;		/* in: room in bfl_list; out: entries */
	unsigned int *bfl_list;
};

/* ---- the header before each packet -------------------------------------- */

#if defined(__LP64__) || defined(_BPFDEV_TIME32)
#define _BPFDEV_TIMEVAL timeval
#else
/* ILP32 with a 64-bit time_t: the record still holds 32-bit stamps. */
struct bpf_timeval32 {
	int32_t tv_sec;
	int32_t tv_usec;
};
#define _BPFDEV_TIMEVAL bpf_timeval32
#endif

/* Time stamps of BPF_T_MICROTIME and BPF_T_NONE. */
struct bpf_hdr {
	struct _BPFDEV_TIMEVAL bh_tstamp; /* when it was captured */
	bpf_u_int32 bh_caplen;		/* bytes captured */
	bpf_u_int32 bh_datalen;		/* bytes on the wire */
	unsigned short bh_hdrlen;	/* bytes from here to the packet */
};
#undef _BPFDEV_TIMEVAL

/* Bytes of struct bpf_hdr in use, without the padding of sizeof: 26, on ILP32 18. */
#define SIZEOF_BPF_HDR (offsetof(struct bpf_hdr, bh_hdrlen) + sizeof(unsigned short))

/* Time stamps of BPF_T_NANOTIME and BPF_T_BINTIME. */
struct bpf_ts {
	bpf_int64 bt_sec;		/* seconds */
	bpf_u_int64 bt_frac;		/* nanoseconds, or with BPF_T_BINTIME 1/2^64 seconds */
};

struct bpf_xhdr {
	struct bpf_ts bh_tstamp;
	bpf_u_int32 bh_caplen;
	bpf_u_int32 bh_datalen;
	unsigned short bh_hdrlen;
};

/* ---- requests, in the order of their numbers ---------------------------- */

#define BIOCGBLEN	_BPFDEV_IOR('B', 102, unsigned int)
#define BIOCSBLEN	_BPFDEV_IOWR('B', 102, unsigned int)
#define BIOCSETF	_BPFDEV_IOW('B', 103, struct bpf_program)
#define BIOCFLUSH	_BPFDEV_IO('B', 104)
#define BIOCPROMISC	_BPFDEV_IO('B', 105)
#define BIOCGDLT	_BPFDEV_IOR('B', 106, unsigned int)
#define BIOCGETIF	_BPFDEV_IOR('B', 107, struct bpf_ifreq)
#define BIOCSETIF	_BPFDEV_IOW('B', 108, struct bpf_ifreq)
#define BIOCSRTIMEOUT	_BPFDEV_IOW('B', 109, struct timeval)
#define BIOCGRTIMEOUT	_BPFDEV_IOR('B', 110, struct timeval)
#define BIOCGSTATS	_BPFDEV_IOR('B', 111, struct bpf_stat)
#define BIOCIMMEDIATE	_BPFDEV_IOW('B', 112, unsigned int)
#define BIOCVERSION	_BPFDEV_IOR('B', 113, struct bpf_version)
#define BIOCGRSIG	_BPFDEV_IOR('B', 114, unsigned int)
#define BIOCSRSIG	_BPFDEV_IOW('B', 115, unsigned int)
#define BIOCGHDRCMPLT	_BPFDEV_IOR('B', 116, unsigned int)
#define BIOCSHDRCMPLT	_BPFDEV_IOW('B', 117, unsigned int)
#define BIOCGDIRECTION	_BPFDEV_IOR('B', 118, unsigned int)
#define BIOCSDIRECTION	_BPFDEV_IOW('B', 119, unsigned int)
#define BIOCSDLT	_BPFDEV_IOW('B', 120, unsigned int)
#define BIOCGDLTLIST	_BPFDEV_IOWR('B', 121, struct bpf_dltlist)
#define BIOCLOCK	_BPFDEV_IO('B', 122)
#define BIOCSETWF	_BPFDEV_IOW('B', 123, struct bpf_program)
#define BIOCFEEDBACK	_BPFDEV_IOW('B', 124, unsigned int)
#define BIOCSETFNR	_BPFDEV_IOW('B', 130, struct bpf_program)
#define BIOCGTSTAMP	_BPFDEV_IOR('B', 131, unsigned int)
#define BIOCSTSTAMP	_BPFDEV_IOW('B', 132, unsigned int)
#define BIOCSETVLANPCP	_BPFDEV_IOW('B', 133, unsigned int)	/* since FreeBSD 14 */

/* The older names: 0 hides what this host sends, 1 shows it. */
#define BIOCGSEESENT	BIOCGDIRECTION
#define BIOCSSEESENT	BIOCSDIRECTION

/* BIOCGDIRECTION, BIOCSDIRECTION */
#define BPF_D_IN 0
#define BPF_D_INOUT 1
#define BPF_D_OUT 2

/* ---- BIOCGTSTAMP, BIOCSTSTAMP: a format, and flags ---------------------- */

#define BPF_T_MICROTIME 0x0000	/* struct bpf_hdr */
#define BPF_T_NANOTIME 0x0001	/* struct bpf_xhdr, bt_frac in nanoseconds */
#define BPF_T_BINTIME 0x0002	/* struct bpf_xhdr, bt_frac in 1/2^64 seconds */
#define BPF_T_NONE 0x0003	/* struct bpf_hdr, the stamp is zero */
#define BPF_T_FORMAT_MASK 0x0003
#define BPF_T_NORMAL 0x0000
#define BPF_T_FAST 0x0100	/* a coarser clock */
#define BPF_T_MONOTONIC 0x0200	/* time since boot */
#define BPF_T_MONOTONIC_FAST (BPF_T_FAST | BPF_T_MONOTONIC)
#define BPF_T_FLAG_MASK 0x0300
#define BPF_T_FORMAT(t) ((t) & BPF_T_FORMAT_MASK)
#define BPF_T_FLAG(t) ((t) & BPF_T_FLAG_MASK)
#define BPF_T_VALID(t) \
	((t) == BPF_T_NONE || (BPF_T_FORMAT(t) != BPF_T_NONE && ((t) & ~(BPF_T_FORMAT_MASK | BPF_T_FLAG_MASK)) == 0))

#define BPF_T_MICROTIME_FAST (BPF_T_MICROTIME | BPF_T_FAST)
#define BPF_T_NANOTIME_FAST (BPF_T_NANOTIME | BPF_T_FAST)
#define BPF_T_BINTIME_FAST (BPF_T_BINTIME | BPF_T_FAST)
#define BPF_T_MICROTIME_MONOTONIC (BPF_T_MICROTIME | BPF_T_MONOTONIC)
#define BPF_T_NANOTIME_MONOTONIC (BPF_T_NANOTIME | BPF_T_MONOTONIC)
#define BPF_T_BINTIME_MONOTONIC (BPF_T_BINTIME | BPF_T_MONOTONIC)
#define BPF_T_MICROTIME_MONOTONIC_FAST (BPF_T_MICROTIME | BPF_T_MONOTONIC_FAST)
#define BPF_T_NANOTIME_MONOTONIC_FAST (BPF_T_NANOTIME | BPF_T_MONOTONIC_FAST)
#define BPF_T_BINTIME_MONOTONIC_FAST (BPF_T_BINTIME | BPF_T_MONOTONIC_FAST)

/*
 * A program that finds BIOCSTSTAMP defined, libpcap for one, expects these of
 * FreeBSD's <sys/time.h>.
 */
struct bintime {
	time_t sec;
	uint64_t frac;			/* 1/2^64 seconds */
};

/* glibc hides struct timespec in C99's strictly conforming mode. */
#if !defined(__GLIBC__) || defined(_STRUCT_TIMESPEC)
static __inline void
bintime2timespec(const struct bintime *_bt, struct timespec *_ts)
{
	_ts->tv_sec = _bt->sec;
	_ts->tv_nsec = (long)(((_bt->frac >> 32) * 1000000000U) >> 32);
}
#endif

static __inline void
bintime2timeval(const struct bintime *_bt, struct timeval *_tv)
{
	_tv->tv_sec = _bt->sec;
	_tv->tv_usec = (suseconds_t)(((_bt->frac >> 32) * 1000000U) >> 32);
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * OpenBSD's part of <net/bpf.h>, with BPFDEV_ABI_OPENBSD.
 *
 * Numbers and layouts as in sys/net/bpf.h 1.71 (OpenBSD 7.3, 2023-04), the same
 * on every architecture.
 */
#define BPF_MAXBUFSIZE (2 * 1024 * 1024)	/* bytes, BIOCSBLEN */
#define BPF_ALIGNMENT sizeof(uint32_t)

/* BIOCGSTATS; both wrap around. */
struct bpf_stat {
	unsigned int bs_recv;		/* packets seen, whatever their direction */
	unsigned int bs_drop;		/* packets lost for want of buffer space */
};

/* BIOCGDLTLIST; with bfl_list NULL only bfl_len is written. */
struct bpf_dltlist {
	unsigned int bfl_len;		/* in: room in bfl_list; out: entries */
	unsigned int *bfl_list;
};

/* ---- the header before each packet -------------------------------------- */

struct bpf_timeval {
	uint32_t tv_sec;
	uint32_t tv_usec;
};

struct bpf_hdr {
	struct bpf_timeval bh_tstamp;	/* when it was captured */
	uint32_t bh_caplen;		/* bytes captured */
	uint32_t bh_datalen;		/* bytes on the wire */
	uint16_t bh_hdrlen;		/* bytes from here to the packet */
	uint16_t bh_ifidx;		/* the interface's index */
	uint16_t bh_flowid;
	uint8_t bh_flags;		/* BPF_F_ */
	uint8_t bh_drops;
};

#define SIZEOF_BPF_HDR sizeof(struct bpf_hdr)

/* bh_flags */
#define BPF_F_PRI_MASK 0x07
#define BPF_F_FLOWID 0x08		/* bh_flowid is valid */
#define BPF_F_DIR_SHIFT 4
#define BPF_F_DIR_MASK (0x3 << BPF_F_DIR_SHIFT)
#define BPF_F_DIR_IN (BPF_DIRECTION_IN << BPF_F_DIR_SHIFT)
#define BPF_F_DIR_OUT (BPF_DIRECTION_OUT << BPF_F_DIR_SHIFT)

/* ---- requests, in the order of their numbers ---------------------------- */

#define BIOCGBLEN	_BPFDEV_IOR('B', 102, unsigned int)
#define BIOCSBLEN	_BPFDEV_IOWR('B', 102, unsigned int)
#define BIOCSETF	_BPFDEV_IOW('B', 103, struct bpf_program)
#define BIOCFLUSH	_BPFDEV_IO('B', 104)
#define BIOCPROMISC	_BPFDEV_IO('B', 105)
#define BIOCGDLT	_BPFDEV_IOR('B', 106, unsigned int)
#define BIOCGETIF	_BPFDEV_IOR('B', 107, struct bpf_ifreq)
#define BIOCSETIF	_BPFDEV_IOW('B', 108, struct bpf_ifreq)
#define BIOCGSTATS	_BPFDEV_IOR('B', 111, struct bpf_stat)
#define BIOCIMMEDIATE	_BPFDEV_IOW('B', 112, unsigned int)
#define BIOCVERSION	_BPFDEV_IOR('B', 113, struct bpf_version)
#define BIOCSRSIG	_BPFDEV_IOW('B', 114, unsigned int)	/* 114 and 115 are the other */
#define BIOCGRSIG	_BPFDEV_IOR('B', 115, unsigned int)	/* way round elsewhere */
#define BIOCGHDRCMPLT	_BPFDEV_IOR('B', 116, unsigned int)
#define BIOCSHDRCMPLT	_BPFDEV_IOW('B', 117, unsigned int)
#define BIOCLOCK	_BPFDEV_IO('B', 118)
#define BIOCSETWF	_BPFDEV_IOW('B', 119, struct bpf_program)
#define BIOCGFILDROP	_BPFDEV_IOR('B', 120, unsigned int)
#define BIOCSFILDROP	_BPFDEV_IOW('B', 121, unsigned int)
#define BIOCSDLT	_BPFDEV_IOW('B', 122, unsigned int)
#define BIOCGDLTLIST	_BPFDEV_IOWR('B', 123, struct bpf_dltlist)
#define BIOCGDIRFILT	_BPFDEV_IOR('B', 124, unsigned int)
#define BIOCSDIRFILT	_BPFDEV_IOW('B', 125, unsigned int)
/*
 * OpenBSD has a 64-bit time_t everywhere. A 32-bit program needs one too: these
 * are missing without -D_TIME_BITS=64 -D_FILE_OFFSET_BITS=64, for they would
 * read and write past the end of an 8-byte struct timeval.
 */
#ifndef _BPFDEV_TIME32
#define BIOCSRTIMEOUT	_BPFDEV_IOW('B', 109, struct timeval)
#define BIOCGRTIMEOUT	_BPFDEV_IOR('B', 110, struct timeval)
#define BIOCSWTIMEOUT	_BPFDEV_IOW('B', 126, struct timeval)	/* since OpenBSD 7.3 */
#define BIOCGWTIMEOUT	_BPFDEV_IOR('B', 126, struct timeval)
#endif
#define BIOCDWTIMEOUT	_BPFDEV_IO('B', 126)

/* BIOCGDIRFILT, BIOCSDIRFILT: the directions to hide */
#define BPF_DIRECTION_IN 1
#define BPF_DIRECTION_OUT (1 << 1)

/* BIOCGFILDROP, BIOCSFILDROP */
#define BPF_FILDROP_PASS 0	/* accepted packets are captured, and go on */
#define BPF_FILDROP_CAPTURE 1	/* they are captured and dropped; here they go on */
#define BPF_FILDROP_DROP 2	/* not captured, dropped; refused here, EOPNOTSUPP */

/* ld: a random number */
#define BPF_RND 0xc0

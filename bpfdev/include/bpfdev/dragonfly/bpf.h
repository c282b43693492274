/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * DragonFly's part of <net/bpf.h>, with BPFDEV_ABI_DRAGONFLY; 64-bit only, as
 * DragonFly is.
 *
 * Numbers and layouts as in sys/net/bpf.h of February 2016. (u) marks what came
 * later and what we know only from golang.org/x/sys: the number is right, how
 * the kernel behaves is unverified.
 */
#define BPF_MAXBUFSIZE 0x80000	/* bytes, BIOCSBLEN */
#define BPF_DEFAULTBUFSIZE 4096	/* bytes, BIOCGBLEN of a new descriptor */
#define BPF_MAX_CLONES 128
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

/* The header before each packet. */
struct bpf_hdr {
	struct timeval bh_tstamp;	/* when it was captured */
	bpf_u_int32 bh_caplen;		/* bytes captured */
	bpf_u_int32 bh_datalen;		/* bytes on the wire */
	unsigned short bh_hdrlen;	/* bytes from here to the packet */
};

/* Bytes DragonFly counts for it: all 32. */
#define SIZEOF_BPF_HDR sizeof(struct bpf_hdr)

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
#define BIOCGSEESENT	_BPFDEV_IOR('B', 118, unsigned int)
#define BIOCSSEESENT	_BPFDEV_IOW('B', 119, unsigned int)	/* 0 hides what this host sends */
#define BIOCSDLT	_BPFDEV_IOW('B', 120, unsigned int)
#define BIOCGDLTLIST	_BPFDEV_IOWR('B', 121, struct bpf_dltlist)
#define BIOCLOCK	_BPFDEV_IO('B', 122)
#define BIOCSETWF	_BPFDEV_IOW('B', 123, struct bpf_program)
#define BIOCGFEEDBACK	_BPFDEV_IOR('B', 124, unsigned int)	/* (u) */
#define BIOCSFEEDBACK	_BPFDEV_IOW('B', 125, unsigned int)	/* (u) */

#define BIOCFEEDBACK	BIOCSFEEDBACK

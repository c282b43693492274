/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * NetBSD's part of <net/bpf.h>, with BPFDEV_ABI_NETBSD.
 *
 * Numbers and layouts as in sys/net/bpf.h of netbsd-10 (2023-09); on LP64
 * those of amd64, on ILP32 those of i386.
 */
#define BPF_MAXBUFSIZE (1024 * 1024 * 16)	/* bytes, the highest net.bpf.maxbufsize */
#define BPF_DFLTBUFSIZE (1024 * 1024)	/* bytes, BIOCSBLEN: net.bpf.maxbufsize unless changed */
#define BPF_ALIGNMENT sizeof(long)
#define BPF_ALIGNMENT32 sizeof(int)
#define BPF_WORDALIGN32(x) (((x) + (BPF_ALIGNMENT32 - 1)) & ~(BPF_ALIGNMENT32 - 1))

/* BIOCGSTATS */
struct bpf_stat {
	uint64_t bs_recv;		/* packets seen by the filter */
	uint64_t bs_drop;		/* packets lost for want of buffer space */
	uint64_t bs_capt;		/* packets the filter accepted */
	uint64_t bs_padding[13];
};

/* BIOCGSTATSOLD; both wrap around. */
struct bpf_stat_old {
	unsigned int bs_recv;
	unsigned int bs_drop;
};

/* BIOCGDLTLIST; with bfl_list NULL only bfl_len is written. */
struct bpf_dltlist {
	unsigned int bfl_len;		/* in: room in bfl_list; out: entries */
	unsigned int *bfl_list;
};

/* ---- the header before each packet -------------------------------------- */

struct bpf_timeval {
	long tv_sec;
	long tv_usec;
};

struct bpf_timeval32 {
	int32_t tv_sec;
	int32_t tv_usec;
};

struct bpf_hdr {
	struct bpf_timeval bh_tstamp;	/* when it was captured */
	uint32_t bh_caplen;		/* bytes captured */
	uint32_t bh_datalen;		/* bytes on the wire */
	uint16_t bh_hdrlen;		/* bytes from here to the packet */
};

/* What a 32-bit program finds. */
struct bpf_hdr32 {
	struct bpf_timeval32 bh_tstamp;
	uint32_t bh_caplen;
	uint32_t bh_datalen;
	uint16_t bh_hdrlen;
};

/* Bytes NetBSD counts for struct bpf_hdr: amd64 all 32, i386 without the padding. */
#define SIZEOF_BPF_HDR (sizeof(struct bpf_hdr) <= 20 ? 18 : sizeof(struct bpf_hdr))

/* ---- requests, in the order of their numbers ---------------------------- */

#define BIOCGBLEN	_BPFDEV_IOR('B', 102, unsigned int)
#define BIOCSBLEN	_BPFDEV_IOWR('B', 102, unsigned int)
#define BIOCSETF	_BPFDEV_IOW('B', 103, struct bpf_program)
#define BIOCFLUSH	_BPFDEV_IO('B', 104)
#define BIOCPROMISC	_BPFDEV_IO('B', 105)
#define BIOCGDLT	_BPFDEV_IOR('B', 106, unsigned int)
/*
 * NetBSD's struct ifreq has 144 bytes, that of <net/if.h> on Linux 40: its own
 * BIOCGETIF, 0x4090426b, would write 104 bytes past the end of the caller's.
 * So these two are the requests from before NetBSD 5, for 32 bytes, which are
 * the beginning of ours. The kernel still answers them, but not once the
 * descriptor is locked (BIOCLOCK).
 */
#define OBIOCGETIF	_BPFDEV_IOR('B', 107, struct bpf_ifreq)
#define OBIOCSETIF	_BPFDEV_IOW('B', 108, struct bpf_ifreq)
#define BIOCGETIF	OBIOCGETIF
#define BIOCSETIF	OBIOCSETIF
#define BIOCSORTIMEOUT	_BPFDEV_IOW('B', 109, struct timeval)	/* struct timeval50: two longs */
#define BIOCGORTIMEOUT	_BPFDEV_IOR('B', 110, struct timeval)
#define BIOCGSTATS	_BPFDEV_IOR('B', 111, struct bpf_stat)
#define BIOCGSTATSOLD	_BPFDEV_IOR('B', 111, struct bpf_stat_old)
#define BIOCIMMEDIATE	_BPFDEV_IOW('B', 112, unsigned int)
#define BIOCVERSION	_BPFDEV_IOR('B', 113, struct bpf_version)
#define BIOCSTCPF	_BPFDEV_IOW('B', 114, struct bpf_program)	/* defined only: EINVAL, as on NetBSD */
#define BIOCSUDPF	_BPFDEV_IOW('B', 115, struct bpf_program)	/* the same */
#define BIOCGHDRCMPLT	_BPFDEV_IOR('B', 116, unsigned int)
#define BIOCSHDRCMPLT	_BPFDEV_IOW('B', 117, unsigned int)
#define BIOCSDLT	_BPFDEV_IOW('B', 118, unsigned int)
#define BIOCGDLTLIST	_BPFDEV_IOWR('B', 119, struct bpf_dltlist)
#define BIOCGDIRECTION	_BPFDEV_IOR('B', 120, unsigned int)
#define BIOCSDIRECTION	_BPFDEV_IOW('B', 121, unsigned int)
/*
 * NetBSD's struct timeval has 64-bit seconds and 32-bit microseconds: 16 bytes,
 * on i386 12. On a 64-bit little-endian Linux ours holds the same bytes. Where
 * it does not, the older requests are the ones that mean it: a 32-bit time_t
 * (8 bytes, the others would read and write past its end), a big-endian
 * machine.
 */
#if defined(_BPFDEV_TIME32) || __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BIOCSRTIMEOUT	BIOCSORTIMEOUT
#define BIOCGRTIMEOUT	BIOCGORTIMEOUT
#else
#define BIOCSRTIMEOUT	_BPFDEV_IOW('B', 122, struct timeval)
#define BIOCGRTIMEOUT	_BPFDEV_IOR('B', 123, struct timeval)
#endif
#define BIOCGFEEDBACK	_BPFDEV_IOR('B', 124, unsigned int)
#define BIOCSFEEDBACK	_BPFDEV_IOW('B', 125, unsigned int)
#define BIOCLOCK	_BPFDEV_IO('B', 126)	/* since NetBSD 10 */
#define BIOCSETWF	_BPFDEV_IOW('B', 127, struct bpf_program)	/* since NetBSD 10 */

#define BIOCFEEDBACK	BIOCSFEEDBACK
/* The older names: 0 hides what this host sends, 1 shows it. */
#define BIOCGSEESENT	BIOCGDIRECTION
#define BIOCSSEESENT	BIOCSDIRECTION

/* BIOCGDIRECTION, BIOCSDIRECTION */
#define BPF_D_IN 0
#define BPF_D_INOUT 1
#define BPF_D_OUT 2

/* misc: calls into the kernel, refused in a filter of BIOCSETF */
#define BPF_COP 0x20
#define BPF_COPX 0x40

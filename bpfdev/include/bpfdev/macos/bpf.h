/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * macOS's part of <net/bpf.h>, with BPFDEV_ABI_MACOS. What Apple's SDK hides
 * behind PRIVATE is here behind PRIVATE too.
 *
 * Numbers and layouts as in bsd/net/bpf.h of xnu-11417 (macOS 15.4, 2025), the
 * same for 64-bit and 32-bit programs but where a pointer or a struct timeval
 * makes the difference.
 *
 * Each node has one opener: open bpf0, bpf1 and so on until it is not EBUSY.
 *
 * Left out, for the device refuses them: BIOCSETUP with struct bpf_setup_args,
 * BIOC[GS]BATCHWRITE, BIOC[GS]DVRTIN. Header compression can be asked for but is
 * never on, as with debug.bpf_hdr_comp_enable=0; no interface is a pktap.
 */
#define BPF_MAXBUFSIZE 0x80000	/* bytes; BIOCSBLEN takes up to 32 MiB */
#define BPF_ALIGNMENT sizeof(int32_t)

/* BIOCGSTATS; both wrap around. */
struct bpf_stat {
	unsigned int bs_recv;		/* packets seen by the filter */
	unsigned int bs_drop;		/* packets lost for want of buffer space */
};

/* BIOCGDLTLIST; with bfl_list NULL only bfl_len is written. 12 bytes, in 32-bit programs too. */
#pragma pack(push, 4)
struct bpf_dltlist {
	uint32_t bfl_len;		/* in: room in bfl_list; out: entries */
	union {
		uint32_t *bflu_list;
		uint64_t bflu_pad;
	} bfl_u;
};
#pragma pack(pop)
#define bfl_list bfl_u.bflu_list

/* ---- the header before each packet -------------------------------------- */

struct timeval32 {
	int32_t tv_sec;
	int32_t tv_usec;
};

struct bpf_hdr {
	struct timeval32 bh_tstamp;	/* when it was captured */
	bpf_u_int32 bh_caplen;		/* bytes captured */
	bpf_u_int32 bh_datalen;		/* bytes on the wire */
	unsigned short bh_hdrlen;	/* bytes from here to the packet */
};

/* Bytes of struct bpf_hdr in use, without the padding of sizeof. */
#define SIZEOF_BPF_HDR (offsetof(struct bpf_hdr, bh_hdrlen) + sizeof(unsigned short))

#ifdef PRIVATE

/* The same after BIOCSEXTHDR. What Linux has no word for is zero. */
struct bpf_hdr_ext {
	struct timeval32 bh_tstamp;
	bpf_u_int32 bh_caplen;
	bpf_u_int32 bh_datalen;
	unsigned short bh_hdrlen;
	unsigned char bh_complen;
	unsigned char bh_flags;		/* BPF_HDR_EXT_FLAGS_ */
	int32_t bh_pid;
	char bh_comm[17];
	unsigned char bh_pktflags;
	uint16_t bh_trace_tag;
	bpf_u_int32 bh_svc;
	bpf_u_int32 bh_flowid;
	bpf_u_int32 bh_unsent_bytes;
	bpf_u_int32 bh_unsent_snd;
	bpf_u_int32 bh_comp_gencnt;
};

#define BPF_HDR_EXT_FLAGS_DIR_IN 0x00
#define BPF_HDR_EXT_FLAGS_DIR_OUT 0x01

/* The same with header compression. */
struct bpf_comp_hdr {
	struct timeval32 bh_tstamp;
	bpf_u_int32 bh_caplen;
	bpf_u_int32 bh_datalen;
	unsigned short bh_hdrlen;
	unsigned char bh_complen;	/* leading bytes equal to the packet before, left out */
	unsigned char bh_padding;
};

/* BIOCGHDRCOMPSTATS */
struct bpf_comp_stats {
	uint64_t bcs_total_read;
	uint64_t bcs_total_size;
	uint64_t bcs_total_hdr_size;
	uint64_t bcs_count_no_common_prefix;
	uint64_t bcs_count_compressed_prefix;
	uint64_t bcs_total_compressed_prefix_size;
	uint64_t bcs_max_compressed_prefix_size;
};
#endif /* PRIVATE */

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
#define BIOCSETFNR	_BPFDEV_IOW('B', 126, struct bpf_program)

#ifdef PRIVATE

#define BIOCGETTC	_BPFDEV_IOR('B', 122, int)
#define BIOCSETTC	_BPFDEV_IOW('B', 123, int)
#define BIOCSEXTHDR	_BPFDEV_IOW('B', 124, unsigned int)	/* records begin with struct bpf_hdr_ext */
#define BIOCGIFATTACHCOUNT _BPFDEV_IOWR('B', 125, struct bpf_ifreq)
#define BIOCGWANTPKTAP	_BPFDEV_IOR('B', 127, unsigned int)
#define BIOCSWANTPKTAP	_BPFDEV_IOWR('B', 127, unsigned int)
#define BIOCSHEADDROP	_BPFDEV_IOW('B', 128, int)	/* drop the oldest packets, not the newest */
#define BIOCGHEADDROP	_BPFDEV_IOR('B', 128, int)
#define BIOCSTRUNCATE	_BPFDEV_IOW('B', 129, unsigned int)
#define BIOCGETUUID	_BPFDEV_IOR('B', 130, unsigned char[16])
#define BIOCSPKTHDRV2	_BPFDEV_IOW('B', 132, int)
#define BIOCGPKTHDRV2	_BPFDEV_IOW('B', 133, int)	/* sic: nothing comes back */
#define BIOCGHDRCOMP	_BPFDEV_IOR('B', 134, int)
#define BIOCSHDRCOMP	_BPFDEV_IOW('B', 135, int)
#define BIOCGHDRCOMPSTATS _BPFDEV_IOR('B', 136, struct bpf_comp_stats)
#define BIOCGHDRCOMPON	_BPFDEV_IOR('B', 137, int)
#define BIOCGDIRECTION	_BPFDEV_IOR('B', 138, int)
#define BIOCSDIRECTION	_BPFDEV_IOW('B', 139, int)
#define BIOCSWRITEMAX	_BPFDEV_IOW('B', 140, unsigned int)
#define BIOCGWRITEMAX	_BPFDEV_IOR('B', 141, unsigned int)
#define BIOCGNOTSTAMP	_BPFDEV_IOR('B', 144, int)
#define BIOCSNOTSTAMP	_BPFDEV_IOW('B', 145, int)

/* BIOCGDIRECTION, BIOCSDIRECTION */
#define BPF_D_NONE 0x0
#define BPF_D_IN 0x1
#define BPF_D_OUT 0x2
#define BPF_D_INOUT 0x3

#endif /* PRIVATE */

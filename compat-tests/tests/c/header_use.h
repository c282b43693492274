/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a BSD client does with <net/bpf.h>, each name once. tests/header puts it
 * behind every order of includes, in every dialect: C99 to C17 and C++17,
 * pedantic.
 */
#include <string.h>

/* Ours, whoever came first. An array of negative length is C99's static assertion. */
extern char header_constants[BPF_WORDALIGN(9) % BPF_ALIGNMENT == 0 && BPF_WORDALIGN(BPF_ALIGNMENT) == BPF_ALIGNMENT &&
	BPF_MAXINSNS == 512 && sizeof(struct bpf_insn) == 8 &&
	((BIOCSETF >> 16) & 0x1fff) == sizeof(struct bpf_program) ? 1 : -1];

/* Two requests with one number would be a duplicate case. */
int header_request_is_known(unsigned long request);
int header_request_is_known(unsigned long request)
{
	switch (request) {
	case BIOCGBLEN: case BIOCSBLEN: case BIOCSETF: case BIOCFLUSH: case BIOCPROMISC: case BIOCGDLT:
	case BIOCGETIF: case BIOCSETIF: case BIOCGSTATS: case BIOCIMMEDIATE: case BIOCVERSION:
	case BIOCGHDRCMPLT: case BIOCSHDRCMPLT: case BIOCSDLT: case BIOCGDLTLIST:
	case BIOCFIONREAD: case BIOCFIOASYNC: case FIONREAD:
		return 1;
#ifdef BIOCSRSIG
	case BIOCGRSIG: case BIOCSRSIG:
		return 1;
#endif
#ifdef BIOCFIOSETOWN
	case BIOCFIOSETOWN: case BIOCFIOGETOWN:
		return 1;
#endif
#ifdef BIOCSRTIMEOUT
	case BIOCSRTIMEOUT: case BIOCGRTIMEOUT:
		return 1;
#endif
#ifdef BIOCSWTIMEOUT
	case BIOCSWTIMEOUT: case BIOCGWTIMEOUT: case BIOCDWTIMEOUT:
		return 1;
#endif
#ifdef BIOCSDIRECTION
	case BIOCGDIRECTION: case BIOCSDIRECTION:
		return 1;
#endif
#if defined(BPFDEV_ABI_DRAGONFLY) || defined(BPFDEV_ABI_MACOS) /* elsewhere another name for BIOCSDIRECTION */
	case BIOCGSEESENT: case BIOCSSEESENT:
		return 1;
#endif
#ifdef BIOCSDIRFILT
	case BIOCGDIRFILT: case BIOCSDIRFILT: case BIOCGFILDROP: case BIOCSFILDROP:
		return 1;
#endif
#ifdef BIOCLOCK
	case BIOCLOCK: case BIOCSETWF:
		return 1;
#endif
#ifdef BIOCSETFNR
	case BIOCSETFNR:
		return 1;
#endif
#ifdef BIOCFEEDBACK
	case BIOCFEEDBACK:
		return 1;
#endif
#ifdef BIOCGFEEDBACK
	case BIOCGFEEDBACK:
		return 1;
#endif
#ifdef BIOCSTSTAMP
	case BIOCGTSTAMP: case BIOCSTSTAMP: case BIOCSETVLANPCP:
		return 1;
#endif
#ifdef BIOCGSTATSOLD
	case BIOCGSTATSOLD: case BIOCSTCPF: case BIOCSUDPF:
		return 1;
#endif
#ifdef BIOCSEXTHDR
	case BIOCGETTC: case BIOCSETTC: case BIOCSEXTHDR: case BIOCGIFATTACHCOUNT: case BIOCGWANTPKTAP:
	case BIOCSWANTPKTAP: case BIOCSHEADDROP: case BIOCGHEADDROP: case BIOCSTRUNCATE: case BIOCGETUUID:
	case BIOCSPKTHDRV2: case BIOCGPKTHDRV2: case BIOCGHDRCOMP: case BIOCSHDRCOMP: case BIOCGHDRCOMPSTATS:
	case BIOCGHDRCOMPON: case BIOCSWRITEMAX: case BIOCGWRITEMAX: case BIOCGNOTSTAMP: case BIOCSNOTSTAMP:
		return 1;
#endif
	default:
		return 0;
	}
}

static struct bpf_insn header_program[] = {
	BPF_STMT(BPF_LD + BPF_H + BPF_ABS, 12),
	BPF_JUMP(BPF_JMP + BPF_JEQ + BPF_K, 0x0800, 0, 3),
#ifdef BPF_MOD
	BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 7),
	BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
#endif
	BPF_STMT(BPF_RET + BPF_K, (bpf_u_int32)-1),
	BPF_STMT(BPF_RET + BPF_K, 0),
};

/* Shows both directions, as each system says it. */
static int header_both_directions(int fd)
{
#ifdef BIOCSDIRFILT
	unsigned int hidden = BPF_DIRECTION_IN | BPF_DIRECTION_OUT;

	if (ioctl(fd, BIOCSDIRFILT, &hidden) < 0)
		return -1;
	hidden = 0;
	return ioctl(fd, BIOCSDIRFILT, &hidden);
#else
	unsigned int on = 1;

	if (ioctl(fd, BIOCSSEESENT, &on) < 0)
		return -1;
#ifdef BIOCSDIRECTION
	on = BPF_D_INOUT;
	return ioctl(fd, BIOCSDIRECTION, &on);
#else
	return 0;
#endif
#endif
}

int header_configure(int fd, const char *interface);
int header_configure(int fd, const char *interface)
{
	struct bpf_program program;
	struct bpf_version version;
	struct bpf_stat stat;
	struct bpf_ifreq name;
	struct bpf_dltlist list;
	unsigned int length = BPF_MAXBUFSIZE, types[8];

	memset(&name, 0, sizeof(name));
	strncpy(name.bif_name, interface, sizeof(name.bif_name) - 1);
	program.bf_len = sizeof(header_program) / sizeof(header_program[0]);
	program.bf_insns = header_program;
	list.bfl_len = 8;
	list.bfl_list = types;
	if (ioctl(fd, BIOCVERSION, &version) < 0 || version.bv_major != BPF_MAJOR_VERSION ||
	    version.bv_minor < BPF_MINOR_VERSION || program.bf_len > BPF_MAXINSNS || length < BPF_MINBUFSIZE)
		return -1;
	if (ioctl(fd, BIOCSBLEN, &length) < 0 || ioctl(fd, BIOCSETIF, &name) < 0 || ioctl(fd, BIOCSETF, &program) < 0 ||
	    header_both_directions(fd) < 0 || ioctl(fd, BIOCGDLTLIST, &list) < 0 || ioctl(fd, BIOCPROMISC) < 0 ||
	    ioctl(fd, BIOCGSTATS, &stat) < 0 || stat.bs_recv < stat.bs_drop)
		return -1;
#ifdef BIOCSRTIMEOUT
	{
		struct timeval timeout = { 1, 0 };

		if (ioctl(fd, BIOCSRTIMEOUT, &timeout) < 0)
			return -1;
	}
#endif
#ifdef ifr_name /* glibc and the kernel both make it a macro, beside struct ifreq */
	{
		struct ifreq request;

		memset(&request, 0, sizeof(request));
		memcpy(request.ifr_name, interface, strlen(interface) + 1);
		if (((BIOCSETIF >> 16) & 0x1fff) > sizeof(request) || ioctl(fd, BIOCSETIF, &request) < 0)
			return -1;
	}
#endif
	return list.bfl_len > 0 && types[0] == DLT_EN10MB;
}

/* The walk over a read buffer, as every client has it. */
unsigned long header_walk(const char *buffer, size_t filled);
unsigned long header_walk(const char *buffer, size_t filled)
{
	const char *p = buffer, *end = buffer + filled;
	unsigned long sum = 0;

	while ((size_t)(end - p) >= SIZEOF_BPF_HDR) {
		struct bpf_hdr header;

		memcpy(&header, p, SIZEOF_BPF_HDR);
		sum += header.bh_datalen + (unsigned long)header.bh_tstamp.tv_sec + (unsigned long)header.bh_tstamp.tv_usec;
		p += BPF_WORDALIGN(header.bh_hdrlen + header.bh_caplen);
	}
	return sum + BPF_MEMWORDS + BPF_CLASS(sum) + BPF_MISCOP(sum) + BPF_RVAL(sum);
}

#ifdef BIOCSTSTAMP
/* A record of BPF_T_BINTIME, as libpcap reads it. */
unsigned long header_bintime(const char *record);
unsigned long header_bintime(const char *record)
{
	struct bpf_xhdr header;
	struct bintime stamp;
	struct timeval microseconds;

	memcpy(&header, record, offsetof(struct bpf_xhdr, bh_hdrlen) + sizeof(header.bh_hdrlen));
	stamp.sec = (time_t)header.bh_tstamp.bt_sec;
	stamp.frac = header.bh_tstamp.bt_frac;
	bintime2timeval(&stamp, &microseconds);
	return (unsigned long)microseconds.tv_usec + BPF_T_VALID(BPF_T_BINTIME_MONOTONIC_FAST);
}
#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a BSD client does with <net/bpf.h>, each name once. tests/header.rs
 * puts it behind every order of includes: C99 to C17 and C++17, pedantic.
 */
#include <string.h>

/* Ours, whoever came first. An array of negative length is C99's static assertion. */
extern char header_constants[BPF_ALIGNMENT == sizeof(long) && BPF_WORDALIGN(9) % sizeof(long) == 0 &&
	BPF_MAXINSNS == 512 && sizeof(struct bpf_insn) == 8 && _IOC_SIZE(BIOCSETF) == sizeof(struct bpf_program) ? 1 : -1];

/* Two requests with one number would be a duplicate case. */
int header_request_is_known(unsigned long request);
int header_request_is_known(unsigned long request)
{
	switch (request) {
	case BIOCGBLEN: case BIOCSBLEN: case BIOCSETF: case BIOCFLUSH: case BIOCPROMISC: case BIOCGDLT:
	case BIOCGETIF: case BIOCSETIF: case BIOCSRTIMEOUT: case BIOCGRTIMEOUT: case BIOCGSTATS:
	case BIOCIMMEDIATE: case BIOCVERSION: case BIOCGRSIG: case BIOCSRSIG: case BIOCGHDRCMPLT:
	case BIOCSHDRCMPLT: case BIOCGDIRECTION: case BIOCSDIRECTION: case BIOCSDLT: case BIOCGDLTLIST:
	case BIOCLOCK: case BIOCSETWF: case BIOCFEEDBACK: case BIOCSETFNR: case BIOCFIONREAD: case FIONREAD:
		return 1;
	default:
		return 0;
	}
}

static struct bpf_insn header_program[] = {
	BPF_STMT(BPF_LD + BPF_H + BPF_ABS, 12),
	BPF_JUMP(BPF_JMP + BPF_JEQ + BPF_K, 0x0800, 0, 3),
	BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 7),
	BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
	BPF_STMT(BPF_RET + BPF_K, (bpf_u_int32)-1),
	BPF_STMT(BPF_RET + BPF_K, 0),
};

int header_configure(int fd, const char *interface);
int header_configure(int fd, const char *interface)
{
	struct bpf_program program;
	struct bpf_version version;
	struct bpf_ifreq name;
	struct bpf_dltlist list;
	struct timeval timeout = { 1, 0 };
	unsigned int length = BPF_MAXBUFSIZE, on = 1, direction = BPF_D_INOUT, types[8];

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
	    ioctl(fd, BIOCSRTIMEOUT, &timeout) < 0 || ioctl(fd, BIOCSDIRECTION, &direction) < 0 ||
	    ioctl(fd, BIOCSSEESENT, &on) < 0 || ioctl(fd, BIOCGDLTLIST, &list) < 0 || ioctl(fd, BIOCPROMISC) < 0)
		return -1;
#ifdef ifr_name /* glibc and the kernel both make it a macro, beside struct ifreq */
	{
		struct ifreq request;

		memset(&request, 0, sizeof(request));
		memcpy(request.ifr_name, interface, strlen(interface) + 1);
		if (_IOC_SIZE(BIOCSETIF) != sizeof(request) || ioctl(fd, BIOCSETIF, &request) < 0)
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

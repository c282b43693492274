/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * capture NODE INTERFACE COUNT SNAPLEN: one source, compiled once for each
 * dialect of <net/bpf.h>. It says "ready", waits for a line, reads COUNT packets
 * of ethertype 0x88b5 and prints them: bytes captured, bytes on the wire, the
 * bytes themselves. On the way it asks the device what it can, and checks that
 * the answers have the layout this program was compiled for.
 */
#define _DEFAULT_SOURCE
#include <sys/types.h>
#include <sys/time.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void
die(const char *what)
{
	printf("%s: errno %d (%s)\n", what, errno, strerror(errno));
	exit(1);
}

static void
expect(int holds, const char *what)
{
	if (!holds) {
		printf("%s\n", what);
		exit(1);
	}
}

/* The node, or where it has one opener, the first free one from it on. */
static int
open_node(const char *first)
{
	char name[4096];
	size_t stem = strlen(first);
	unsigned int unit = 0;
	int fd;

	while (stem > 0 && first[stem - 1] >= '0' && first[stem - 1] <= '9')
		stem--;
	if (first[stem] != '\0')
		unit = (unsigned int)strtoul(first + stem, NULL, 10);
	snprintf(name, sizeof(name), "%s", first);
	while ((fd = open(name, O_RDWR)) < 0 && errno == EBUSY && first[stem] != '\0')
		snprintf(name, sizeof(name), "%.*s%u", (int)stem, first, ++unit);
	if (fd < 0)
		die(name);
	return fd;
}

/* An argument of a request, with bytes behind it that are none of the device's business. */
#define GUARD 128
#define GUARDED(type) struct { type value; unsigned char guard[GUARD]; }

static int
untouched(const unsigned char *guard)
{
	int i;

	for (i = 0; i < GUARD; i++)
		if (guard[i] != 0xa5)
			return 0;
	return 1;
}

static void
bind_to(int fd, const char *interface)
{
	GUARDED(struct ifreq) name;

	memset(&name, 0, sizeof(name));
	memset(name.guard, 0xa5, GUARD);
	strncpy(name.value.ifr_name, interface, sizeof(name.value.ifr_name) - 1);
	if (ioctl(fd, BIOCSETIF, &name.value) < 0)
		die("BIOCSETIF");
	memset(&name.value, 0xff, sizeof(name.value));
	if (ioctl(fd, BIOCGETIF, &name.value) < 0)
		die("BIOCGETIF");
	expect(strcmp(name.value.ifr_name, interface) == 0, "BIOCGETIF: another name");
	expect(untouched(name.guard), "BIOCGETIF wrote past the end of struct ifreq");
}

static void
set_timeout(int fd)
{
#ifdef BIOCSRTIMEOUT
	struct timeval wanted = { 0, 250000 };
	GUARDED(struct timeval) set;

	memset(&set, 0xa5, sizeof(set));
	if (ioctl(fd, BIOCSRTIMEOUT, &wanted) < 0)
		die("BIOCSRTIMEOUT");
	if (ioctl(fd, BIOCGRTIMEOUT, &set.value) < 0)
		die("BIOCGRTIMEOUT");
	expect(set.value.tv_sec == wanted.tv_sec && set.value.tv_usec == wanted.tv_usec, "BIOCGRTIMEOUT: another time");
	expect(untouched(set.guard), "BIOCGRTIMEOUT wrote past the end of struct timeval");
#else
#error this dialect has no read timeout for this data model
#endif
}

static void
set_filter(int fd, unsigned int snaplen)
{
	struct bpf_insn insns[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x88b5, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct bpf_program program;

	insns[2].k = snaplen;
	program.bf_len = sizeof(insns) / sizeof(insns[0]);
	program.bf_insns = insns;
	if (ioctl(fd, BIOCSETF, &program) < 0)
		die("BIOCSETF");
}

static void
check_link_type(int fd)
{
	GUARDED(struct bpf_dltlist) list;
	unsigned int type, types[8];

	if (ioctl(fd, BIOCGDLT, &type) < 0)
		die("BIOCGDLT");
	expect(type == DLT_EN10MB, "BIOCGDLT: not Ethernet");
	memset(&list, 0xa5, sizeof(list)); /* and around the pointer of a 32-bit program */
	list.value.bfl_len = 8;
	list.value.bfl_list = types;
	if (ioctl(fd, BIOCGDLTLIST, &list.value) < 0)
		die("BIOCGDLTLIST");
	expect(list.value.bfl_len >= 1 && types[0] == DLT_EN10MB, "BIOCGDLTLIST: not Ethernet");
	expect(untouched(list.guard), "BIOCGDLTLIST wrote past the end of struct bpf_dltlist");
}

static int
print_packets(const unsigned char *buffer, size_t filled)
{
	const unsigned char *p = buffer, *end = buffer + filled;
	long now = (long)time(NULL);
	int packets = 0;

	while (p < end) {
		struct bpf_hdr header;
		bpf_u_int32 i;

		expect((size_t)(end - p) >= SIZEOF_BPF_HDR, "a record without a whole header");
		memset(&header, 0, sizeof(header));
		memcpy(&header, p, SIZEOF_BPF_HDR);
		expect(header.bh_hdrlen >= SIZEOF_BPF_HDR, "bh_hdrlen is less than the header");
		expect((size_t)(end - p) >= (size_t)header.bh_hdrlen + header.bh_caplen, "a record past the end of the read");
		expect((long)header.bh_tstamp.tv_sec >= now - 3600 && (long)header.bh_tstamp.tv_sec <= now + 3600,
		    "bh_tstamp is not today");
		expect((unsigned long)header.bh_tstamp.tv_usec < 1000000, "bh_tstamp.tv_usec");
		printf("%lu %lu ", (unsigned long)header.bh_caplen, (unsigned long)header.bh_datalen);
		for (i = 0; i < header.bh_caplen; i++)
			printf("%02x", p[header.bh_hdrlen + i]);
		printf("\n");
		packets++;
		p += BPF_WORDALIGN(header.bh_hdrlen + header.bh_caplen);
	}
	return packets;
}

int
main(int argc, char **argv)
{
	GUARDED(struct bpf_stat) stat;
	struct bpf_version version;
	unsigned int length = 32768, on = 1;
	unsigned char *buffer;
	char line[8];
	int fd, pending = -1, wanted, seen = 0;

	if (argc != 5)
		return 2;
	alarm(30); /* a device that does not answer ends the test, not the machine */
	fd = open_node(argv[1]);
	if (ioctl(fd, BIOCVERSION, &version) < 0)
		die("BIOCVERSION");
	expect(version.bv_major == BPF_MAJOR_VERSION && version.bv_minor >= BPF_MINOR_VERSION, "BIOCVERSION");
	if (ioctl(fd, BIOCSBLEN, &length) < 0)
		die("BIOCSBLEN");
	expect(length == 32768, "BIOCSBLEN: another length");
	set_timeout(fd);
	set_filter(fd, (unsigned int)strtoul(argv[4], NULL, 10));
	bind_to(fd, argv[2]);
	if (ioctl(fd, BIOCIMMEDIATE, &on) < 0)
		die("BIOCIMMEDIATE");
	check_link_type(fd);
	buffer = malloc(length);
	if (buffer == NULL)
		die("malloc");
	printf("ready\n");
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		die("no line came");

	wanted = atoi(argv[3]);
	while (seen < wanted) {
		ssize_t n = read(fd, buffer, length);

		if (n < 0)
			die("read");
		seen += print_packets(buffer, (size_t)n); /* 0 bytes: the timeout */
		fflush(stdout);
	}
	memset(&stat, 0xa5, sizeof(stat));
	if (ioctl(fd, BIOCGSTATS, &stat.value) < 0)
		die("BIOCGSTATS");
	expect(stat.value.bs_recv >= (unsigned int)seen && stat.value.bs_drop == 0, "BIOCGSTATS: packets lost, or not counted");
	expect(untouched(stat.guard), "BIOCGSTATS wrote past the end of struct bpf_stat");
	if (ioctl(fd, BIOCFIONREAD, &pending) < 0)
		die("BIOCFIONREAD");
	expect(pending == 0, "BIOCFIONREAD: not 0 though all was read");
	return 0;
}

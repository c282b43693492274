/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the length of each packet of an interface: capture INTERFACE [COUNT]. The same source on every BSD and on Linux. */
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <net/if.h>
#include <net/bpf.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The cloning node; else, as on macOS, the first numbered one that nobody has open. */
static int
open_bpf(void)
{
	char path[sizeof("/dev/bpf255")];
	int fd = open("/dev/bpf", O_RDWR);

	for (int i = 0; fd < 0 && (i == 0 || errno == EBUSY) && i < 256; i++) {
		snprintf(path, sizeof(path), "/dev/bpf%d", i);
		fd = open(path, O_RDWR);
	}
	return fd;
}

int
main(int argc, char *argv[])
{
	long left = argc > 2 ? atol(argv[2]) : -1;
	struct ifreq ifr = { 0 };
	unsigned int on = 1, len;
	int fd = open_bpf();

	if (argc < 2 || fd < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], argc < 2 ? "which interface?" : strerror(errno));
		return 1;
	}
	strncpy(ifr.ifr_name, argv[1], sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, BIOCSETIF, &ifr) < 0 || ioctl(fd, BIOCIMMEDIATE, &on) < 0 || ioctl(fd, BIOCGBLEN, &len) < 0)
		return perror(argv[1]), 1;
	char *buf = malloc(len);
	for (;;) {
		ssize_t n = read(fd, buf, len);
		if (n < 0)
			return perror("read"), 1;
		struct bpf_hdr *h;
		for (char *p = buf; p < buf + n; p += BPF_WORDALIGN(h->bh_hdrlen + h->bh_caplen)) {
			h = (struct bpf_hdr *)p;
			printf("%u bytes on the wire, %u kept\n", (unsigned)h->bh_datalen, (unsigned)h->bh_caplen);
			if (left > 0 && --left == 0)
				return 0;
		}
		fflush(stdout);
	}
}

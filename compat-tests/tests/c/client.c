/*
 * A client of /dev/bpf as a BSD programmer writes one. The tests compile it against our <net/bpf.h>, as a 64-bit and
 * as a 32-bit program, and run it: client MODE NODE INTERFACE [...]. Each mode prints "ready" when it is about to wait.
 */
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <net/if.h>
#include <net/bpf.h>
#include <linux/userfaultfd.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *node, *interface;

static void
die(const char *what)
{
	printf("%s: errno %d (%s)\n", what, errno, strerror(errno));
	exit(1);
}

static void
ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

static void
bind_to(int fd, const char *name)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, BIOCSETIF, &ifr) < 0)
		die("BIOCSETIF");
}

/* Frames of ethertype 0x88b5 (for local experiments), as many bytes as asked for. */
static void
set_filter(int fd, unsigned int snaplen)
{
	struct bpf_insn insns[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x88b5, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, snaplen),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct bpf_program program = { sizeof(insns) / sizeof(insns[0]), insns };

	if (ioctl(fd, BIOCSETF, &program) < 0)
		die("BIOCSETF");
}

static int
open_bound(void)
{
	unsigned int on = 1;
	int fd = open(node, O_RDWR);

	if (fd < 0)
		die("open");
	bind_to(fd, interface);
	if (ioctl(fd, BIOCIMMEDIATE, &on) < 0)
		die("BIOCIMMEDIATE");
	return fd;
}

static char *
buffer_for(int fd, unsigned int *len)
{
	char *buffer;

	if (ioctl(fd, BIOCGBLEN, len) < 0)
		die("BIOCGBLEN");
	buffer = malloc(*len);
	if (buffer == NULL)
		die("malloc");
	return buffer;
}

/* Prints every frame of one read(2): its length on the wire, the bytes captured, and the first one of its data. */
static int
print_frames(const char *buffer, ssize_t len)
{
	const char *p = buffer;
	int count = 0;

	while (p < buffer + len) {
		const struct bpf_hdr *h = (const struct bpf_hdr *)p;
		const unsigned char *frame = (const unsigned char *)p + h->bh_hdrlen;

		printf("frame %u of %u, first %02x\n", h->bh_caplen, h->bh_datalen, frame[14]);
		p += BPF_WORDALIGN(h->bh_hdrlen + h->bh_caplen);
		count++;
	}
	fflush(stdout);
	return count;
}

static void
capture(int wanted)
{
	struct bpf_version version;
	struct bpf_stat stat;
	struct bpf_dltlist list;
	unsigned int len = 32768, dlt, dlts[8];
	int fd = open(node, O_RDWR), seen = 0;
	char *buffer;

	if (fd < 0)
		die("open");
	if (ioctl(fd, BIOCVERSION, &version) < 0 || version.bv_major != BPF_MAJOR_VERSION)
		die("BIOCVERSION");
	if (ioctl(fd, BIOCSBLEN, &len) < 0 || len != 32768)
		die("BIOCSBLEN");
	bind_to(fd, interface);
	if (ioctl(fd, BIOCGDLT, &dlt) < 0 || dlt != DLT_EN10MB)
		die("BIOCGDLT");
	memset(&list, 0, sizeof(list));
	list.bfl_len = 8;
	list.bfl_list = dlts;
	if (ioctl(fd, BIOCGDLTLIST, &list) < 0 || list.bfl_len < 1 || dlts[0] != DLT_EN10MB)
		die("BIOCGDLTLIST");
	dlt = 1;
	if (ioctl(fd, BIOCIMMEDIATE, &dlt) < 0)
		die("BIOCIMMEDIATE");
	set_filter(fd, 40);
	buffer = buffer_for(fd, &len);
	ready();
	while (seen < wanted) {
		ssize_t n = read(fd, buffer, len);

		if (n < 0)
			die("read");
		seen += print_frames(buffer, n);
	}
	if (ioctl(fd, BIOCGSTATS, &stat) < 0)
		die("BIOCGSTATS");
	printf("recv %u drop %u\n", stat.bs_recv, stat.bs_drop);
	exit(0);
}

static volatile sig_atomic_t handled;

static void
handler(int sig)
{
	(void)sig;
	handled = 1;
}

/* Blocks in read(2); SIGUSR1 is handled, with these flags, any other signal does its default. */
static void
block(int flags)
{
	struct sigaction action;
	unsigned int len;
	int fd = open_bound();
	char *buffer = buffer_for(fd, &len);
	ssize_t n;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = flags;
	sigaction(SIGUSR1, &action, NULL);
	ready();
	n = read(fd, buffer, len);
	printf("read %zd errno %d handled %d\n", n, n < 0 ? errno : 0, (int)handled);
	exit(0);
}

/* Waits in poll(2), select(2) or an edge-triggered epoll(7) for each of `wanted` frames, and reads it. */
static void
wait_by(const char *how, int wanted)
{
	unsigned int len;
	int fd = open_bound(), epfd = -1, i, n = 0;
	char *buffer;

	set_filter(fd, (unsigned int)-1);
	buffer = buffer_for(fd, &len);
	if (strcmp(how, "epoll") == 0) {
		struct epoll_event event = { .events = EPOLLIN | EPOLLET };

		epfd = epoll_create1(0);
		if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0)
			die("epoll_ctl");
	}
	ready();
	for (i = 0; i < wanted; i++) {
		if (strcmp(how, "poll") == 0) {
			struct pollfd pollfd = { .fd = fd, .events = POLLIN };

			n = poll(&pollfd, 1, 10000);
		} else if (strcmp(how, "select") == 0) {
			struct timeval timeout = { 10, 0 };
			fd_set set;

			FD_ZERO(&set);
			FD_SET(fd, &set);
			n = select(fd + 1, &set, NULL, NULL, &timeout);
		} else {
			struct epoll_event event;

			n = epoll_wait(epfd, &event, 1, 10000);
		}
		if (n != 1)
			die(how);
		print_frames(buffer, read(fd, buffer, len));
	}
	exit(0);
}

/* Opens and binds, hands the descriptor to a child over a socket, and forgets it: the child filters and reads. */
static void
pass(void)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
	    .msg_controllen = sizeof(control) };
	int pair[2], status;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		die("socketpair");
	child = fork();
	if (child == 0) {
		unsigned int len;
		char *buffer;
		int fd;

		if (recvmsg(pair[1], &msg, 0) != 1)
			die("recvmsg");
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
		set_filter(fd, 60);
		buffer = buffer_for(fd, &len);
		ready();
		print_frames(buffer, read(fd, buffer, len));
		exit(0);
	} else {
		int fd = open_bound();
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
		if (sendmsg(pair[0], &msg, 0) != 1)
			die("sendmsg");
		close(fd);
		if (waitpid(child, &status, 0) != child)
			die("waitpid");
		exit(WEXITSTATUS(status));
	}
}

static int uffd;
static void *page;

/* When stdin ends, the page that the filter lies in comes to be: zeroes. */
static void *
resolve(void *unused)
{
	struct uffdio_zeropage zero;
	char byte;

	(void)unused;
	while (read(0, &byte, 1) > 0)
		;
	memset(&zero, 0, sizeof(zero));
	zero.range.start = (uintptr_t)page;
	zero.range.len = 4096;
	if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) < 0)
		die("UFFDIO_ZEROPAGE");
	return NULL;
}

/* BIOCSETF with its program in memory whose page fault we control. */
static void
fault(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg;
	struct bpf_program program;
	pthread_t thread;
	int fd = open_bound(), n;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		die("userfaultfd");
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(&reg, 0, sizeof(reg));
	reg.range.start = (uintptr_t)page;
	reg.range.len = 4096;
	reg.mode = UFFDIO_REGISTER_MODE_MISSING;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
		die("UFFDIO_REGISTER");
	pthread_create(&thread, NULL, resolve, NULL);
	program.bf_len = 3;
	program.bf_insns = page;
	ready();
	n = ioctl(fd, BIOCSETF, &program);
	printf("BIOCSETF %d errno %d\n", n, n < 0 ? errno : 0);
	exit(0);
}

/* Opens with another user and other groups: as UID GID SUPPLEMENTARY. */
static void
open_as(char **ids)
{
	gid_t group = (gid_t)atoi(ids[2]);
	int fd;

	if (setgroups(group != 0, &group) < 0 || setgid((gid_t)atoi(ids[1])) < 0 || setuid((uid_t)atoi(ids[0])) < 0)
		die("become another user");
	fd = open(node, O_RDWR);
	if (fd < 0)
		die("open");
	close(fd);
	printf("opened\n");
	capture(1);
}

int
main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (argc < 4) {
		fprintf(stderr, "usage: client MODE NODE INTERFACE [...]\n");
		return 2;
	}
	node = argv[2];
	interface = argv[3];
	if (strcmp(mode, "capture") == 0)
		capture(atoi(argv[4]));
	if (strcmp(mode, "block") == 0)
		block(0);
	if (strcmp(mode, "block-restart") == 0)
		block(SA_RESTART);
	if (strcmp(mode, "poll") == 0 || strcmp(mode, "select") == 0 || strcmp(mode, "epoll") == 0)
		wait_by(mode, atoi(argv[4]));
	if (strcmp(mode, "pass") == 0)
		pass();
	if (strcmp(mode, "fault") == 0)
		fault();
	if (strcmp(mode, "as") == 0)
		open_as(argv + 4);
	fprintf(stderr, "client: no mode %s\n", mode);
	return 2;
}

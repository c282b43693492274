/*
 * A program that sleeps until the device signals it: signal NODE INTERFACE. It speaks FreeBSD's dialect with numbers of its
 * own, so that it can be compiled for any machine; its process id is the one it sees itself.
 */
#include <sys/ioctl.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BSD_BIOCSETIF	0x8020426cUL
#define BSD_BIOCIMMEDIATE	0x80044270UL
#define BSD_FIOASYNC	0x8004667dUL
#define BSD_FIOSETOWN	0x8004667cUL
#define BSD_FIOGETOWN	0x4004667bUL

static void
call(int fd, unsigned long request, void *arg, const char *what)
{
	if (ioctl(fd, request, arg) < 0) {
		perror(what);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	char ifr[32];
	int fd, on = 1, owner = (int)getpid(), got = 0, signal;
	sigset_t set;

	if (argc != 3)
		return (2);
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = open(argv[1], O_RDWR);
	if (fd < 0) {
		perror(argv[1]);
		return (1);
	}
	memset(ifr, 0, sizeof(ifr));
	strncpy(ifr, argv[2], 15);
	call(fd, BSD_BIOCSETIF, ifr, "BIOCSETIF");
	call(fd, BSD_BIOCIMMEDIATE, &on, "BIOCIMMEDIATE");
	call(fd, BSD_FIOSETOWN, &owner, "FIOSETOWN");
	call(fd, BSD_FIOGETOWN, &got, "FIOGETOWN");
	call(fd, BSD_FIOASYNC, &on, "FIOASYNC");
	printf("ready %d\n", got == owner);
	fflush(stdout);
	if (sigwait(&set, &signal) != 0)
		return (1);
	printf("signal %d\n", signal);
	return (0);
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <sys/sockio.h> for Linux: SIOCGIFADDR and the other requests of a socket,
 * which <sys/ioctl.h> has here.  They are Linux's own; what only a BSD has
 * (SIOCAIFADDR, SIOCGIFMEDIA) is not defined, so that #ifdef tells.
 */
#ifndef _SYS_SOCKIO_H_
#define _SYS_SOCKIO_H_

#include <sys/ioctl.h>

#endif /* !_SYS_SOCKIO_H_ */

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * FreeBSD's link types, for <net/dlt.h> with BPFDEV_ABI_FREEBSD and without
 * any define. Names and numbers as in sys/net/dlt.h of 2024.
 *
 * Each name is guarded for the dialect linux, where a <pcap/dlt.h> that came
 * first keeps its values.
 */
#ifndef DLT_NULL
#define DLT_NULL 0
#endif
#ifndef DLT_EN10MB
#define DLT_EN10MB 1
#endif
#ifndef DLT_EN3MB
#define DLT_EN3MB 2
#endif
#ifndef DLT_AX25
#define DLT_AX25 3
#endif
#ifndef DLT_PRONET
#define DLT_PRONET 4
#endif
#ifndef DLT_CHAOS
#define DLT_CHAOS 5
#endif
#ifndef DLT_IEEE802
#define DLT_IEEE802 6
#endif
#ifndef DLT_ARCNET
#define DLT_ARCNET 7
#endif
#ifndef DLT_SLIP
#define DLT_SLIP 8
#endif
#ifndef DLT_PPP
#define DLT_PPP 9
#endif
#ifndef DLT_FDDI
#define DLT_FDDI 10
#endif
#ifndef DLT_ATM_RFC1483
#define DLT_ATM_RFC1483 11
#endif
#ifndef DLT_RAW
#define DLT_RAW 12
#endif
#ifndef DLT_SLIP_BSDOS
#define DLT_SLIP_BSDOS 13
#endif
#ifndef DLT_PPP_BSDOS
#define DLT_PPP_BSDOS 14
#endif
#ifndef DLT_ATM_CLIP
#define DLT_ATM_CLIP 19
#endif
#ifndef DLT_REDBACK_SMARTEDGE
#define DLT_REDBACK_SMARTEDGE 32
#endif
#ifndef DLT_PPP_SERIAL
#define DLT_PPP_SERIAL 50
#endif
#ifndef DLT_PPP_ETHER
#define DLT_PPP_ETHER 51
#endif
#ifndef DLT_SYMANTEC_FIREWALL
#define DLT_SYMANTEC_FIREWALL 99
#endif
#ifndef DLT_C_HDLC
#define DLT_C_HDLC 104
#endif
#ifndef DLT_CHDLC
#define DLT_CHDLC DLT_C_HDLC
#endif
#ifndef DLT_IEEE802_11
#define DLT_IEEE802_11 105
#endif
#ifndef DLT_FRELAY
#define DLT_FRELAY 107
#endif
#ifndef DLT_LOOP
#define DLT_LOOP 108
#endif
#ifndef DLT_ENC
#define DLT_ENC 109
#endif
#ifndef DLT_LINUX_SLL
#define DLT_LINUX_SLL 113
#endif
#ifndef DLT_LTALK
#define DLT_LTALK 114
#endif
#ifndef DLT_ECONET
#define DLT_ECONET 115
#endif
#ifndef DLT_IPFILTER
#define DLT_IPFILTER 116
#endif
#ifndef DLT_PFLOG
#define DLT_PFLOG 117
#endif
#ifndef DLT_CISCO_IOS
#define DLT_CISCO_IOS 118
#endif
#ifndef DLT_PRISM_HEADER
#define DLT_PRISM_HEADER 119
#endif
#ifndef DLT_AIRONET_HEADER
#define DLT_AIRONET_HEADER 120
#endif
#ifndef DLT_PFSYNC
#define DLT_PFSYNC 121
#endif
#ifndef DLT_IP_OVER_FC
#define DLT_IP_OVER_FC 122
#endif
#ifndef DLT_SUNATM
#define DLT_SUNATM 123
#endif
#ifndef DLT_RIO
#define DLT_RIO 124
#endif
#ifndef DLT_PCI_EXP
#define DLT_PCI_EXP 125
#endif
#ifndef DLT_AURORA
#define DLT_AURORA 126
#endif
#ifndef DLT_IEEE802_11_RADIO
#define DLT_IEEE802_11_RADIO 127
#endif
#ifndef DLT_TZSP
#define DLT_TZSP 128
#endif
#ifndef DLT_ARCNET_LINUX
#define DLT_ARCNET_LINUX 129
#endif
#ifndef DLT_JUNIPER_MLPPP
#define DLT_JUNIPER_MLPPP 130
#endif
#ifndef DLT_JUNIPER_MLFR
#define DLT_JUNIPER_MLFR 131
#endif
#ifndef DLT_JUNIPER_ES
#define DLT_JUNIPER_ES 132
#endif
#ifndef DLT_JUNIPER_GGSN
#define DLT_JUNIPER_GGSN 133
#endif
#ifndef DLT_JUNIPER_MFR
#define DLT_JUNIPER_MFR 134
#endif
#ifndef DLT_JUNIPER_ATM2
#define DLT_JUNIPER_ATM2 135
#endif
#ifndef DLT_JUNIPER_SERVICES
#define DLT_JUNIPER_SERVICES 136
#endif
#ifndef DLT_JUNIPER_ATM1
#define DLT_JUNIPER_ATM1 137
#endif
#ifndef DLT_APPLE_IP_OVER_IEEE1394
#define DLT_APPLE_IP_OVER_IEEE1394 138
#endif
#ifndef DLT_MTP2_WITH_PHDR
#define DLT_MTP2_WITH_PHDR 139
#endif
#ifndef DLT_MTP2
#define DLT_MTP2 140
#endif
#ifndef DLT_MTP3
#define DLT_MTP3 141
#endif
#ifndef DLT_SCCP
#define DLT_SCCP 142
#endif
#ifndef DLT_DOCSIS
#define DLT_DOCSIS 143
#endif
#ifndef DLT_LINUX_IRDA
#define DLT_LINUX_IRDA 144
#endif
#ifndef DLT_IBM_SP
#define DLT_IBM_SP 145
#endif
#ifndef DLT_IBM_SN
#define DLT_IBM_SN 146
#endif
#ifndef DLT_USER0
#define DLT_USER0 147
#endif
#ifndef DLT_USER1
#define DLT_USER1 148
#endif
#ifndef DLT_USER2
#define DLT_USER2 149
#endif
#ifndef DLT_USER3
#define DLT_USER3 150
#endif
#ifndef DLT_USER4
#define DLT_USER4 151
#endif
#ifndef DLT_USER5
#define DLT_USER5 152
#endif
#ifndef DLT_USER6
#define DLT_USER6 153
#endif
#ifndef DLT_USER7
#define DLT_USER7 154
#endif
#ifndef DLT_USER8
#define DLT_USER8 155
#endif
#ifndef DLT_USER9
#define DLT_USER9 156
#endif
#ifndef DLT_USER10
#define DLT_USER10 157
#endif
#ifndef DLT_USER11
#define DLT_USER11 158
#endif
#ifndef DLT_USER12
#define DLT_USER12 159
#endif
#ifndef DLT_USER13
#define DLT_USER13 160
#endif
#ifndef DLT_USER14
#define DLT_USER14 161
#endif
#ifndef DLT_USER15
#define DLT_USER15 162
#endif
#ifndef DLT_IEEE802_11_RADIO_AVS
#define DLT_IEEE802_11_RADIO_AVS 163
#endif
#ifndef DLT_JUNIPER_MONITOR
#define DLT_JUNIPER_MONITOR 164
#endif
#ifndef DLT_BACNET_MS_TP
#define DLT_BACNET_MS_TP 165
#endif
#ifndef DLT_PPP_PPPD
#define DLT_PPP_PPPD 166
#endif
#ifndef DLT_LINUX_PPP_WITHDIRECTION
#define DLT_LINUX_PPP_WITHDIRECTION DLT_PPP_PPPD
#endif
#ifndef DLT_PPP_WITH_DIRECTION
#define DLT_PPP_WITH_DIRECTION DLT_PPP_PPPD
#endif
#ifndef DLT_JUNIPER_PPPOE
#define DLT_JUNIPER_PPPOE 167
#endif
#ifndef DLT_JUNIPER_PPPOE_ATM
#define DLT_JUNIPER_PPPOE_ATM 168
#endif
#ifndef DLT_GPRS_LLC
#define DLT_GPRS_LLC 169
#endif
#ifndef DLT_GPF_T
#define DLT_GPF_T 170
#endif
#ifndef DLT_GPF_F
#define DLT_GPF_F 171
#endif
#ifndef DLT_GCOM_T1E1
#define DLT_GCOM_T1E1 172
#endif
#ifndef DLT_GCOM_SERIAL
#define DLT_GCOM_SERIAL 173
#endif
#ifndef DLT_JUNIPER_PIC_PEER
#define DLT_JUNIPER_PIC_PEER 174
#endif
#ifndef DLT_ERF_ETH
#define DLT_ERF_ETH 175
#endif
#ifndef DLT_ERF_POS
#define DLT_ERF_POS 176
#endif
#ifndef DLT_LINUX_LAPD
#define DLT_LINUX_LAPD 177
#endif
#ifndef DLT_JUNIPER_ETHER
#define DLT_JUNIPER_ETHER 178
#endif
#ifndef DLT_JUNIPER_PPP
#define DLT_JUNIPER_PPP 179
#endif
#ifndef DLT_JUNIPER_FRELAY
#define DLT_JUNIPER_FRELAY 180
#endif
#ifndef DLT_JUNIPER_CHDLC
#define DLT_JUNIPER_CHDLC 181
#endif
#ifndef DLT_MFR
#define DLT_MFR 182
#endif
#ifndef DLT_JUNIPER_VP
#define DLT_JUNIPER_VP 183
#endif
#ifndef DLT_A429
#define DLT_A429 184
#endif
#ifndef DLT_A653_ICM
#define DLT_A653_ICM 185
#endif
#ifndef DLT_USB
#define DLT_USB 186
#endif
#ifndef DLT_USB_FREEBSD
#define DLT_USB_FREEBSD 186
#endif
#ifndef DLT_BLUETOOTH_HCI_H4
#define DLT_BLUETOOTH_HCI_H4 187
#endif
#ifndef DLT_IEEE802_16_MAC_CPS
#define DLT_IEEE802_16_MAC_CPS 188
#endif
#ifndef DLT_USB_LINUX
#define DLT_USB_LINUX 189
#endif
#ifndef DLT_CAN20B
#define DLT_CAN20B 190
#endif
#ifndef DLT_IEEE802_15_4_LINUX
#define DLT_IEEE802_15_4_LINUX 191
#endif
#ifndef DLT_PPI
#define DLT_PPI 192
#endif
#ifndef DLT_IEEE802_16_MAC_CPS_RADIO
#define DLT_IEEE802_16_MAC_CPS_RADIO 193
#endif
#ifndef DLT_JUNIPER_ISM
#define DLT_JUNIPER_ISM 194
#endif
#ifndef DLT_IEEE802_15_4
#define DLT_IEEE802_15_4 195
#endif
#ifndef DLT_SITA
#define DLT_SITA 196
#endif
#ifndef DLT_ERF
#define DLT_ERF 197
#endif
#ifndef DLT_RAIF1
#define DLT_RAIF1 198
#endif
#ifndef DLT_IPMB_KONTRON
#define DLT_IPMB_KONTRON 199
#endif
#ifndef DLT_JUNIPER_ST
#define DLT_JUNIPER_ST 200
#endif
#ifndef DLT_BLUETOOTH_HCI_H4_WITH_PHDR
#define DLT_BLUETOOTH_HCI_H4_WITH_PHDR 201
#endif
#ifndef DLT_AX25_KISS
#define DLT_AX25_KISS 202
#endif
#ifndef DLT_LAPD
#define DLT_LAPD 203
#endif
#ifndef DLT_PPP_WITH_DIR
#define DLT_PPP_WITH_DIR 204
#endif
#ifndef DLT_C_HDLC_WITH_DIR
#define DLT_C_HDLC_WITH_DIR 205
#endif
#ifndef DLT_FRELAY_WITH_DIR
#define DLT_FRELAY_WITH_DIR 206
#endif
#ifndef DLT_LAPB_WITH_DIR
#define DLT_LAPB_WITH_DIR 207
#endif
#ifndef DLT_IPMB_LINUX
#define DLT_IPMB_LINUX 209
#endif
#ifndef DLT_FLEXRAY
#define DLT_FLEXRAY 210
#endif
#ifndef DLT_MOST
#define DLT_MOST 211
#endif
#ifndef DLT_LIN
#define DLT_LIN 212
#endif
#ifndef DLT_X2E_SERIAL
#define DLT_X2E_SERIAL 213
#endif
#ifndef DLT_X2E_XORAYA
#define DLT_X2E_XORAYA 214
#endif
#ifndef DLT_IEEE802_15_4_NONASK_PHY
#define DLT_IEEE802_15_4_NONASK_PHY 215
#endif
#ifndef DLT_LINUX_EVDEV
#define DLT_LINUX_EVDEV 216
#endif
#ifndef DLT_GSMTAP_UM
#define DLT_GSMTAP_UM 217
#endif
#ifndef DLT_GSMTAP_ABIS
#define DLT_GSMTAP_ABIS 218
#endif
#ifndef DLT_MPLS
#define DLT_MPLS 219
#endif
#ifndef DLT_USB_LINUX_MMAPPED
#define DLT_USB_LINUX_MMAPPED 220
#endif
#ifndef DLT_DECT
#define DLT_DECT 221
#endif
#ifndef DLT_AOS
#define DLT_AOS 222
#endif
#ifndef DLT_WIHART
#define DLT_WIHART 223
#endif
#ifndef DLT_FC_2
#define DLT_FC_2 224
#endif
#ifndef DLT_FC_2_WITH_FRAME_DELIMS
#define DLT_FC_2_WITH_FRAME_DELIMS 225
#endif
#ifndef DLT_IPNET
#define DLT_IPNET 226
#endif
#ifndef DLT_CAN_SOCKETCAN
#define DLT_CAN_SOCKETCAN 227
#endif
#ifndef DLT_IPV4
#define DLT_IPV4 228
#endif
#ifndef DLT_IPV6
#define DLT_IPV6 229
#endif
#ifndef DLT_IEEE802_15_4_NOFCS
#define DLT_IEEE802_15_4_NOFCS 230
#endif
#ifndef DLT_DBUS
#define DLT_DBUS 231
#endif
#ifndef DLT_JUNIPER_VS
#define DLT_JUNIPER_VS 232
#endif
#ifndef DLT_JUNIPER_SRX_E2E
#define DLT_JUNIPER_SRX_E2E 233
#endif
#ifndef DLT_JUNIPER_FIBRECHANNEL
#define DLT_JUNIPER_FIBRECHANNEL 234
#endif
#ifndef DLT_DVB_CI
#define DLT_DVB_CI 235
#endif
#ifndef DLT_MUX27010
#define DLT_MUX27010 236
#endif
#ifndef DLT_STANAG_5066_D_PDU
#define DLT_STANAG_5066_D_PDU 237
#endif
#ifndef DLT_JUNIPER_ATM_CEMIC
#define DLT_JUNIPER_ATM_CEMIC 238
#endif
#ifndef DLT_NFLOG
#define DLT_NFLOG 239
#endif
#ifndef DLT_NETANALYZER
#define DLT_NETANALYZER 240
#endif
#ifndef DLT_NETANALYZER_TRANSPARENT
#define DLT_NETANALYZER_TRANSPARENT 241
#endif
#ifndef DLT_IPOIB
#define DLT_IPOIB 242
#endif
#ifndef DLT_MPEG_2_TS
#define DLT_MPEG_2_TS 243
#endif
#ifndef DLT_NG40
#define DLT_NG40 244
#endif
#ifndef DLT_NFC_LLCP
#define DLT_NFC_LLCP 245
#endif
#ifndef DLT_INFINIBAND
#define DLT_INFINIBAND 247
#endif
#ifndef DLT_SCTP
#define DLT_SCTP 248
#endif
#ifndef DLT_USBPCAP
#define DLT_USBPCAP 249
#endif
#ifndef DLT_RTAC_SERIAL
#define DLT_RTAC_SERIAL 250
#endif
#ifndef DLT_BLUETOOTH_LE_LL
#define DLT_BLUETOOTH_LE_LL 251
#endif
#ifndef DLT_WIRESHARK_UPPER_PDU
#define DLT_WIRESHARK_UPPER_PDU 252
#endif
#ifndef DLT_NETLINK
#define DLT_NETLINK 253
#endif
#ifndef DLT_BLUETOOTH_LINUX_MONITOR
#define DLT_BLUETOOTH_LINUX_MONITOR 254
#endif
#ifndef DLT_BLUETOOTH_BREDR_BB
#define DLT_BLUETOOTH_BREDR_BB 255
#endif
#ifndef DLT_BLUETOOTH_LE_LL_WITH_PHDR
#define DLT_BLUETOOTH_LE_LL_WITH_PHDR 256
#endif
#ifndef DLT_PROFIBUS_DL
#define DLT_PROFIBUS_DL 257
#endif
#ifndef DLT_PKTAP
#define DLT_PKTAP 258
#endif
#ifndef DLT_EPON
#define DLT_EPON 259
#endif
#ifndef DLT_IPMI_HPM_2
#define DLT_IPMI_HPM_2 260
#endif
#ifndef DLT_ZWAVE_R1_R2
#define DLT_ZWAVE_R1_R2 261
#endif
#ifndef DLT_ZWAVE_R3
#define DLT_ZWAVE_R3 262
#endif
#ifndef DLT_WATTSTOPPER_DLM
#define DLT_WATTSTOPPER_DLM 263
#endif
#ifndef DLT_ISO_14443
#define DLT_ISO_14443 264
#endif
#ifndef DLT_RDS
#define DLT_RDS 265
#endif
#ifndef DLT_USB_DARWIN
#define DLT_USB_DARWIN 266
#endif
#ifndef DLT_OPENFLOW
#define DLT_OPENFLOW 267
#endif
#ifndef DLT_SDLC
#define DLT_SDLC 268
#endif
#ifndef DLT_TI_LLN_SNIFFER
#define DLT_TI_LLN_SNIFFER 269
#endif
#ifndef DLT_LORATAP
#define DLT_LORATAP 270
#endif
#ifndef DLT_VSOCK
#define DLT_VSOCK 271
#endif
#ifndef DLT_NORDIC_BLE
#define DLT_NORDIC_BLE 272
#endif
#ifndef DLT_DOCSIS31_XRA31
#define DLT_DOCSIS31_XRA31 273
#endif
#ifndef DLT_ETHERNET_MPACKET
#define DLT_ETHERNET_MPACKET 274
#endif
#ifndef DLT_DISPLAYPORT_AUX
#define DLT_DISPLAYPORT_AUX 275
#endif
#ifndef DLT_LINUX_SLL2
#define DLT_LINUX_SLL2 276
#endif

/* From here on a DLT_ and the LINKTYPE_ of a capture file are the same number. */
#ifndef DLT_MATCHING_MIN
#define DLT_MATCHING_MIN 104
#endif
/* The end of that range as FreeBSD has it. */
#ifndef DLT_MATCHING_MAX
#define DLT_MATCHING_MAX 276
#endif

/* A class in the upper bits; NetBSD uses one for raw packets of an address family. */
#ifndef DLT_CLASS
#define DLT_CLASS(x) ((x) & 0x03ff0000)
#endif
#ifndef DLT_CLASS_NETBSD_RAWAF
#define DLT_CLASS_NETBSD_RAWAF 0x02240000
#endif
#ifndef DLT_NETBSD_RAWAF
#define DLT_NETBSD_RAWAF(af) (DLT_CLASS_NETBSD_RAWAF | (af))
#define DLT_NETBSD_RAWAF_AF(x) ((x) & 0x0000ffff)
#define DLT_IS_NETBSD_RAWAF(x) (DLT_CLASS(x) == DLT_CLASS_NETBSD_RAWAF)
#endif

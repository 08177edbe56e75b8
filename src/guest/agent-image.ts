/**
 * The guest agent's machine code, to be loaded at 0x8000. Made by scripts/assemble-agent.mjs from agent/agent.S;
 * agent/agent.lst is its disassembly. A test assembles it again and compares.
 */
const ROWS = [
  'fa 2e 0f 01 16 73 02 66 b8 33 00 00 00 0f 22 c0', // 0x8000
  '66 ea 18 80 00 00 08 00 b8 10 00 00 00 8e d8 8e', // 0x8010
  'c0 8e d0 bc 00 00 01 00 db e3 bf 00 90 00 00 be', // 0x8020
  '00 a0 00 00 b8 00 98 08 00 bb e8 f4 e9 ff ba 00', // 0x8030
  '8e 00 00 bd ff 90 90 90 b9 00 01 00 00 89 07 89', // 0x8040
  '57 04 89 9f 00 08 00 00 89 af 04 08 00 00 c7 06', // 0x8050
  '00 00 00 00 83 c0 08 81 eb 00 08 00 00 83 c7 08', // 0x8060
  '83 c6 04 e2 d8 0f 01 1d 79 82 00 00 c7 05 50 03', // 0x8070
  'e0 fe 00 00 01 00 c7 05 f0 00 e0 fe ff 01 00 00', // 0x8080
  'fb ba 00 0e 00 00 ed ff 24 85 7f 82 00 00 ed 0f', // 0x8090
  'b6 00 eb 09 ed 0f b7 00 eb 03 ed 8b 00 ef eb e6', // 0x80a0
  'ed 0f 6f 00 0f 7f 05 00 a4 00 00 a1 00 a4 00 00', // 0x80b0
  'ef a1 04 a4 00 00 eb e5 ed 89 c7 ed 88 07 eb c6', // 0x80c0
  'ed 89 c7 ed 66 89 07 eb bd ed 89 c7 ed 89 07 eb', // 0x80d0
  'b5 ed 89 c7 b9 01 00 00 00 eb 16 ed 89 c7 ed 89', // 0x80e0
  'c1 ed 89 07 83 c7 04 e2 f8 eb 9b ed 89 c7 ed 89', // 0x80f0
  'c1 ed a3 00 a4 00 00 ed a3 04 a4 00 00 0f 6f 05', // 0x8100
  '00 a4 00 00 0f 7f 07 83 c7 08 e2 e5 e9 75 ff ff', // 0x8110
  'ff ed 89 c2 31 c0 ec eb 0d ed 89 c2 31 c0 66 ed', // 0x8120
  'eb 04 ed 89 c2 ed ba 00 0e 00 00 e9 6d ff ff ff', // 0x8130
  'ed 89 c3 ed 89 da ee e9 45 ff ff ff ed 89 c3 ed', // 0x8140
  '89 da 66 ef e9 38 ff ff ff ed 89 c3 ed 89 da ef', // 0x8150
  'e9 2c ff ff ff ed 89 c6 ed 89 c1 8a 06 e2 fc e9', // 0x8160
  '22 ff ff ff ed 89 c6 ed 89 c1 66 8b 06 e2 fb e9', // 0x8170
  '12 ff ff ff ed 89 c6 ed 89 c1 8b 06 e2 fc e9 03', // 0x8180
  'ff ff ff ed 89 c7 ed 89 c1 ed 88 07 e2 fc e9 f3', // 0x8190
  'fe ff ff ed 89 c7 ed 89 c1 ed 66 89 07 e2 fb e9', // 0x81a0
  'e2 fe ff ff ed 89 c7 ed 89 c1 ed 89 07 e2 fc e9', // 0x81b0
  'd2 fe ff ff ed 8d 3c 85 00 a0 00 00 ed 89 c1 fa', // 0x81c0
  '8b 07 39 c8 73 05 ef fb f4 eb f4 fb e9 b5 fe ff', // 0x81d0
  'ff ed 89 c6 ed 89 c3 ed 89 c1 8b 06 21 d8 39 c8', // 0x81e0
  '75 f8 e9 9f fe ff ff eb fe 50 8b 44 24 04 2d 05', // 0x81f0
  '98 00 00 3d 00 01 00 00 72 26 d1 e8 ff 80 00 a0', // 0x8200
  '00 00 c7 05 b0 00 e0 fe 00 00 00 00 58 83 c4 04', // 0x8210
  'ff 74 24 08 81 24 24 ff fd ff ff 9d fb c2 08 00', // 0x8220
  'c1 e8 03 ba 04 0e 00 00 ef 8d 74 24 08 31 ff 89', // 0x8230
  'c1 bb 00 7d 22 60 d3 eb f6 c3 01 74 05 8b 3e 83', // 0x8240
  'c6 04 8b 06 ef 89 f8 ef f4 eb fd 00 00 00 00 00', // 0x8250
  '00 00 00 ff ff 00 00 00 9b cf 00 ff ff 00 00 00', // 0x8260
  '93 cf 00 17 00 5b 82 00 00 ff 07 00 90 00 00 9e', // 0x8270
  '80 00 00 a4 80 00 00 aa 80 00 00 b0 80 00 00 c8', // 0x8280
  '80 00 00 d0 80 00 00 d9 80 00 00 e1 80 00 00 21', // 0x8290
  '81 00 00 29 81 00 00 32 81 00 00 40 81 00 00 4c', // 0x82a0
  '81 00 00 59 81 00 00 eb 80 00 00 fb 80 00 00 65', // 0x82b0
  '81 00 00 74 81 00 00 84 81 00 00 93 81 00 00 a3', // 0x82c0
  '81 00 00 b4 81 00 00 c4 81 00 00 e1 81 00 00 f7', // 0x82d0
  '81 00 00', // 0x82e0
];

/** 739 bytes, entered at the first in real mode. */
export const AGENT_IMAGE: Uint8Array = Uint8Array.from(ROWS.join(' ').split(' '), (byte) => Number.parseInt(byte, 16));

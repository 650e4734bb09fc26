/* Self test of the core: a0 = signature of everything that it computes.

   Written against stuck-at faults of a multi-cycle core: each part is given operands that make each
   of its bits 0 and 1, among neighbours of the other value, and every result goes into the
   signature. Needs no good memory but for the few words that it stores and loads itself; uses no
   stack. All registers are lost; ra is kept in mepc while the registers march, and in s9 after. */

#include "map.h"

    /* a0 = 31 a0 + value, so that equal errors of two results do not cancel. */
    .macro fold value
    slli    t6, a0, 5
    sub     a0, t6, a0
    add     a0, a0, \value
    .endm

    /* The same of t0, in less space. */
    .macro keep
    jal     t4, keep_t0
    .endm

    /* An instruction that traps, and then the next. */
    .macro trapping instruction:vararg
    la      s11, 99f
    \instruction
99:
    .endm

    .section .first, "ax"
    .globl core_test
core_test:
    csrw    mepc, ra

/* Registers: a march over all but two, which hold the signature, and again with other two. What a
   pass reads is added up, and the sum turned between passes, so that an error of the same bit in
   two passes stays one. Half of the reads go through the one port, half through the other. */

    .macro turn sum, spare
    srli    x\spare, x\sum, 27
    slli    x\sum, x\sum, 5
    or      x\sum, x\sum, x\spare
    .endm

    .macro march_pass sum, spare, port, registers:vararg
    .irp    n, \registers
    .if \port
    add     x\sum, x\sum, x\n
    .else
    add     x\sum, x\n, x\sum
    .endif
    xori    x\n, x\n, -1
    .endr
    turn    \sum, \spare
    .endm

    .macro march sum, spare, up:vararg
    .irp    n, \up
    li      x\n, 0
    .endr
    march_pass \sum, \spare, 0, \up
    march_pass \sum, \spare, 1, \up
    .endm

    .macro march_back sum, spare, down:vararg
    march_pass \sum, \spare, 1, \down
    march_pass \sum, \spare, 0, \down
    /* Each register a word of its own, then all are read. */
    .irp    n, \down
    li      x\n, 0x9E3779B9 * \n & 0xFFFFFFFF
    .endr
    march_pass \sum, \spare, 1, \down
    march_pass \sum, \spare, 0, \down
    .endm

    li      x1, 0
    march       1, 2, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    march_back  1, 2, 31,30,29,28,27,26,25,24,23,22,21,20,19,18,17,16,15,14,13,12,11,10,9,8,7,6,5,4,3
    mv      x31, x1
    march       31, 30, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    march_back  31, 30, 29,28,27,26,25,24,23,22,21,20,19,18,17,16,15,14,13,12,11,10,9,8,7,6,5,4,3,2,1
    mv      a0, x31
    csrr    s9, mepc
    li      zero, -1
    fold    zero

/* Arithmetic, logic, shifts and branches: pairs of a table, and a one that walks. */

    la      s0, pairs
    la      s1, pairs_end
1:  lw      s2, 0(s0)
    lw      s3, 4(s0)
    jal     s10, alu
    jal     s10, multiply_divide
    addi    s0, s0, 8
    bltu    s0, s1, 1b

    li      s0, 0
    li      s1, 32
1:  li      s2, 1
    sll     s2, s2, s0
    addi    s3, s2, -1
    jal     s10, alu
    not     s3, s2
    jal     s10, alu
    mv      s3, s0
    jal     s10, alu
    not     s2, s2
    jal     s10, alu
    addi    s0, s0, 1
    bltu    s0, s1, 1b

    li      s0, 0
1:  li      s2, 1
    sll     s2, s2, s0
    li      s3, 0x6B8B4567
    sra     s3, s3, s0
    jal     s10, multiply_divide
    not     s2, s2
    jal     s10, multiply_divide
    addi    s0, s0, 2
    bltu    s0, s1, 1b

/* Immediates. */

    li      s2, 0x5A5A33CC
    .irp    value, 0, 1, 0x555, -0x556, 0x7FF, -0x800, 0x333, -0x334, 0x0F0, -0x0F1, -1
    addi    t0, s2, \value
    keep
    xori    t0, s2, \value
    keep
    ori     t0, s2, \value
    keep
    andi    t0, s2, \value
    keep
    li      t1, \value
    slti    t0, t1, \value
    keep
    sltiu   t0, t1, \value
    keep
    slti    t0, s2, \value
    keep
    sltiu   t0, s2, \value
    keep
    .endr
    li      s2, 0xA53C0F99
    .irp    amount, 0, 1, 2, 4, 8, 16, 21, 31
    slli    t0, s2, \amount
    keep
    srli    t0, s2, \amount
    keep
    srai    t0, s2, \amount
    keep
    .endr
    .irp    value, 0, 1, 0x55555, 0xAAAAA, 0xFFFFF, 0x80000, 0x33333, 0xCCCCC
    lui     t0, \value
    keep
    auipc   t0, \value
    keep
    .endr

    j       1f
island_1:
    fold    t2
    bne     t2, zero, island_2
1:

/* Loads and stores: all sizes in all places, offsets of many bits, all bits of data and address. */

    li      s0, DATA_BASE + 2048
    la      s1, patterns
2:  lw      s2, 0(s1)
    not     s3, s2
    sw      s2, 0(s0)
    sw      s3, 4(s0)
    lw      t0, 0(s0)
    keep
    lw      t0, 4(s0)
    keep
    .irp    place, 0, 1, 2, 3
    lb      t0, \place(s0)
    keep
    lbu     t0, \place(s0)
    keep
    sb      s3, \place(s0)
    lw      t0, 0(s0)
    keep
    .endr
    .irp    place, 0, 2
    lh      t0, 4+\place(s0)
    keep
    lhu     t0, 4+\place(s0)
    keep
    sh      s2, 4+\place(s0)
    lw      t0, 4(s0)
    keep
    .endr
    addi    s1, s1, 4
    la      t0, patterns_end
    bltu    s1, t0, 2b

    li      s2, 0x13579BDF
    .irp    place, 0x555, -0x556, 0x7FF, -0x800, 0x333, -0x334, 0x0F0, -0x0F1
    addi    s2, s2, \place
    sb      s2, \place(s0)
    lbu     t0, \place(s0)
    keep
    addi    t1, s0, \place
    lb      t0, 0(t1)
    keep
    .endr

    li      s0, DATA_BASE
    li      s1, DATA_SIZE
    li      s2, 4
1:  add     t1, s0, s2
    slli    t0, s2, 16
    xor     t0, t0, s2
    sw      t0, 0(t1)
    slli    s2, s2, 1
    bltu    s2, s1, 1b
    li      s2, 4
1:  add     t1, s0, s2
    lw      t0, 0(t1)
    keep
    slli    s2, s2, 1
    bltu    s2, s1, 1b

/* Traps. The handler folds what it is told and goes on at s11. */

    la      t0, handler
    csrw    mtvec, t0
    trapping ecall
    trapping ebreak
    .irp    word, 0x00000000, 0xFFFFFFFF, 0x00000001, 0x0000006B, 0x04208033, 0x42105033, 0x40001033
    trapping .word \word
    .endr
    .irp    word, 0x02001013, 0x42005013, 0x00003003, 0x00006003, 0x00007003, 0x00003023, 0x00007023
    trapping .word \word
    .endr
    .irp    word, 0x00002063, 0x00003063, 0x00001067, 0x0000200F, 0x10200073, 0x00200073, 0x00004073
    trapping .word \word
    .endr
    /* Registers of the machine that do not exist, or may not be written. */
    .irp    word, 0x00002073, 0x10002073, 0x30202073, 0xC0102073, 0xF1101073, 0xF140E073, 0x7C002073
    trapping .word \word
    .endr

    li      s0, DATA_BASE
    .irp    place, 1, 2, 3
    trapping lw t0, \place(s0)
    trapping sw t0, \place(s0)
    .endr
    trapping lh t0, 1(s0)
    trapping lhu t0, 3(s0)
    trapping sh t0, 1(s0)
    addi    t1, s0, 2
    trapping jalr zero, 0(t1)
    trapping jalr ra, 6(zero)
    trapping sw t0, 0(zero)
    trapping sb t0, 1(zero)
    trapping sh t0, 2(zero)

    /* Addresses that no memory has, and their complements; some of those are misaligned. */
    li      s0, 0x4000
1:  trapping lw t0, 0(s0)
    trapping sw t0, 0(s0)
    trapping jalr ra, 0(s0)
    fold    ra
    not     s1, s0
    trapping lw t0, 0(s1)
    trapping lbu t0, 0(s1)
    trapping sb t0, 0(s1)
    trapping jalr ra, 0(s1)
    slli    s0, s0, 1
    /* Not the data and the registers: loads there are good. */
    li      t0, DATA_BASE
    bne     s0, t0, 2f
    slli    s0, s0, 2
2:  bnez    s0, 1b
    .irp    address, 0x55555554, 0xAAAAAAA8, 0x33333330, 0xCCCCCCCC
    li      s0, \address
    trapping lw t0, 0(s0)
    trapping sw t0, 0(s0)
    trapping jalr ra, 0(s0)
    .endr

    j       1f
island_3:
    fold    t2
    blt     zero, t2, back
1:

/* Control and status registers. Interrupts stay off: mie and mstatus are never set together. */

    la      s1, patterns
2:  lw      s2, 0(s1)
    .irp    name, mscratch, mepc, mtval, mtvec, mie, mstatus
    csrrw   t0, \name, s2
    keep
    csrrs   t0, \name, zero
    keep
    csrrwi  t0, \name, 0x15
    keep
    csrrsi  t0, \name, 0x0A
    keep
    csrrci  t0, \name, 0x11
    keep
    csrrs   t0, \name, s2
    keep
    csrrc   t0, \name, s2
    keep
    csrrw   t0, \name, zero
    keep
    .endr
    /* The counts of instructions are exact; of cycles, all but the lowest bits are. */
    .irp    name, minstreth, mcycleh
    csrw    \name, s2
    csrr    t0, \name
    keep
    .endr
    csrw    minstret, s2
    csrr    t0, minstret
    keep
    andi    t0, s2, -1024
    csrw    mcycle, t0
    csrr    t0, mcycle
    srli    t0, t0, 10
    keep
    li      t1, -1
    csrw    minstret, t1
    csrr    t0, minstret
    keep
    csrr    t0, minstret
    keep
    csrr    t0, minstreth
    keep
    csrw    mcycle, t1
    nop
    csrr    t0, mcycleh
    keep
    addi    s1, s1, 4
    la      t0, patterns_end
    bltu    s1, t0, 2b
    .irp    value, 2, 5, 8, 11, 0x80000007, 0x8000000B
    li      s2, \value
    csrw    mcause, s2
    csrr    t0, mcause
    keep
    .endr
    .irp    name, misa, mvendorid, marchid, mimpid, mhartid
    csrr    t0, \name
    keep
    .endr

    /* mret restores what was enabled before. */
    .irp    value, 0x00, 0x80, 0x08, 0x88
    li      t0, \value
    csrw    mstatus, t0
    la      t0, 1f
    csrw    mepc, t0
    mret
    fold    zero
1:  csrr    t0, mstatus
    keep
    .endr
    csrw    mstatus, zero
    fence
    fence.i
    wfi

/* Jumps over the whole image, and branches of long ways between islands. */

    jal     s8, far_jump
    fold    s8
    la      t1, far_jump + 21
    jalr    s8, -21(t1)
    fold    s8
    li      t2, 3
    beq     t2, t2, island_1
island_2:
    fold    t2
    addi    t2, t2, -1
    bgeu    t2, zero, island_3
back:
    jr      s9

keep_t0:
    fold    t0
    jr      t4

/* s2 and s3 through everything that takes one cycle of the adder, of logic or of the shifter. */
alu:
    .irp    name, add, sub, sll, slt, sltu, xor, srl, sra, or, and
    \name   t0, s2, s3
    fold    t0
    .endr
    sub     t0, s3, s2
    fold    t0
    li      t0, 0
    .irp    name, beq, bne, blt, bge, bltu, bgeu
    slli    t0, t0, 1
    \name   s2, s3, 1f
    addi    t0, t0, 1
1:
    .endr
    fold    t0
    jr      s10

multiply_divide:
    .irp    name, mul, mulh, mulhsu, mulhu, div, divu, rem, remu
    \name   t0, s2, s3
    fold    t0
    .endr
    mulhsu  t0, s3, s2
    fold    t0
    divu    t0, s3, s2
    fold    t0
    remu    t0, s3, s2
    fold    t0
    jr      s10

    .balign 4
handler:
    csrr    t5, mcause
    fold    t5
    csrr    t5, mtval
    fold    t5
    csrr    t5, mepc
    fold    t5
    csrr    t5, mstatus
    fold    t5
    csrw    mepc, s11
    mret

    .section .far, "ax"
far_jump:
    li      t2, 5
1:  fold    t2
    addi    t2, t2, -1
    bnez    t2, 1b
    jr      s8

    .section .rodata
    .balign 4
pairs:
    .word   0x00000000, 0x00000000, 0xFFFFFFFF, 0xFFFFFFFF, 0x00000000, 0xFFFFFFFF
    .word   0xFFFFFFFF, 0x00000000, 0x55555555, 0xAAAAAAAA, 0xAAAAAAAA, 0x55555555
    .word   0x55555555, 0x55555555, 0xAAAAAAAA, 0xAAAAAAAA, 0x00000001, 0xFFFFFFFF
    .word   0xFFFFFFFF, 0x00000001, 0x7FFFFFFF, 0x00000001, 0x80000000, 0xFFFFFFFF
    .word   0x80000000, 0x80000000, 0x7FFFFFFF, 0x80000000, 0x33333333, 0xCCCCCCCC
    .word   0xCCCCCCCC, 0x33333333, 0x0F0F0F0F, 0xF0F0F0F0, 0xF0F0F0F0, 0x0F0F0F0F
    .word   0x00FF00FF, 0xFF00FF00, 0xFF00FF00, 0x00FF00FF, 0x0000FFFF, 0xFFFF0000
    .word   0xFFFF0000, 0x0000FFFF, 0x12345678, 0x9ABCDEF0, 0xDEADBEEF, 0x00000007
    .word   0xB504F333, 0x0000FFFB, 0x6A09E667, 0xBB67AE85
pairs_end:
patterns:
    .word   0x00000000, 0xFFFFFFFF, 0x55555555, 0xAAAAAAAA, 0x33333333, 0xCCCCCCCC
    .word   0x80FF7F01, 0x7F0080FE
patterns_end:
    .globl  core_signature
core_signature:
    .word   CORE_SIGNATURE

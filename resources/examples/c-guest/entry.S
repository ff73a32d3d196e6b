/*
 * The entry. A PVH loader starts the kernel in 32-bit mode with ebx = hvm_start_info. This code builds page tables,
 * switches to 64-bit mode and calls main(start_info). When main returns, the machine ends with its result.
 */

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                  /* lengths of name and value; XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long entry

    .text
    .code32
    .globl entry
entry:
    movl $stack_top, %esp
    movl %ebx, %edi

    /* One to one, the low 4 GiB: four directories of 512 pages of 2 MiB. */
    movl $directories, %eax
    movl $0x83, %edx                /* large, writable, present */
    movl $2048, %ecx
1:  movl %edx, (%eax)
    addl $0x200000, %edx
    addl $8, %eax
    loop 1b
    movl $directories + 3, %edx
    movl $pointers, %eax
    movl $4, %ecx
2:  movl %edx, (%eax)
    addl $0x1000, %edx
    addl $8, %eax
    loop 2b
    movl $pointers + 3, root

    movl $root, %eax
    movl %eax, %cr3
    movl $0x20, %eax                /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx          /* EFER.LME */
    rdmsr
    btsl $8, %eax
    wrmsr
    movl %cr0, %eax
    btsl $31, %eax                  /* paging */
    movl %eax, %cr0
    lgdt table_pointer
    ljmp $8, $sixty_four

    .code64
sixty_four:
    movl $16, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    movl %edi, %edi                 /* the upper half is not defined after the switch */
    call main
    outl %eax, $0xf4
3:  hlt
    jmp 3b

    .section .rodata
    .balign 8
table:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
table_pointer:
    .word 23
    .long table

    .bss
    .balign 4096
root:        .skip 4096
pointers:    .skip 4096
directories: .skip 4 * 4096
    .skip 16384
stack_top:

    .section .note.GNU-stack, "", @progbits

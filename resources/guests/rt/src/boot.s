# The first instructions: from where the loader (or another vCPU) leaves us to Rust in long mode.
#
# A PVH loader enters in 32-bit mode: paging off, flat segments, interrupts off, ebx = physical address of
# hvm_start_info. Memory is mapped one to one, the low 4 GiB, so an address is the same in every mode.

    .section .note.pvh, "a", @note
    .balign 4
    .long 4                         # length of the name
    .long 4                         # length of the value
    .long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

    .section .boot, "ax", @progbits
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    movl $boot_stack_top, %esp
    movl $rt_start, %esi
    movl %ebx, %edi                 # the argument of rt_start
    lgdt boot_gdt_pointer

# esp, esi = a Rust function that does not return, edi = its argument
enter_long_mode:
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax                 # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx          # EFER
    rdmsr
    orl $0x100, %eax                # LME
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax           # PG, PE
    movl %eax, %cr0
    .byte 0xea                      # jmp 0x08:long_mode
    .long long_mode
    .word 0x08

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %esp, %esp                 # the upper halves are not defined after the switch
    movl %edi, %edi
    movl %esi, %esi
    xorl %ebp, %ebp
    call *%rsi
    ud2

# A second processor starts in real mode at the page that the start-up IPI names: this is copied there.
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    .byte 0x66, 0x0f, 0x01, 0x16    # lgdt, with all 32 bits of the base
    .word ap_gdt_pointer - ap_trampoline
    movl %cr0, %eax
    orb $1, %al                     # PE
    movl %eax, %cr0
    .byte 0x66, 0xea                # jmp 0x18:ap_protected, with a 32-bit offset
    .long ap_protected
    .word 0x18
ap_gdt_pointer:
    .word 31
    .long boot_gdt
ap_trampoline_end:

    .code32
ap_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl rt_ap_stack_top, %esp
    movl $rt_ap_start, %esi
    jmp enter_long_mode

# A stub for each vector, 16 bytes each, so that their addresses need no table. Where the processor pushes no error
# code the stub pushes a zero, so that every frame looks the same.
    .section .text.traps, "ax", @progbits
    .code64
    .globl trap_stubs
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 64
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    pushq $0
    .endif
    .byte 0x6a, vector              # push
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    cld
    movq %rsp, %rdi                 # &Frame; 16-byte aligned: 5 + 2 + 9 words below an aligned stack
    call rt_trap
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp                  # vector, error code
    iretq

    .section .data.boot, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: code, 64-bit
    .quad 0x00cf93000000ffff        # 0x10: data
    .quad 0x00cf9b000000ffff        # 0x18: code, 32-bit
boot_gdt_pointer:
    .word 31
    .long boot_gdt

# The low 4 GiB in pages of 2 MiB: present, writable. Filled in here, because filling 2,048 entries at run time
# takes milliseconds where instructions are emulated. What lies in MMIO holes is no memory to the hypervisor, so
# no cache attributes are needed.
    .balign 4096
boot_pml4:
    .quad boot_pdpt + 3
    .fill 511, 8, 0
boot_pdpt:
    .quad boot_pd + 0x0003
    .quad boot_pd + 0x1003
    .quad boot_pd + 0x2003
    .quad boot_pd + 0x3003
    .fill 508, 8, 0
boot_pd:
    .set page, 0
    .rept 2048
    .quad (page << 21) + 0x83
    .set page, page + 1
    .endr

    .section .bss.boot, "aw", @nobits
    .balign 16
    .skip 65536
boot_stack_top:

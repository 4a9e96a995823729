# The C library: `make install PREFIX=/usr/local`, `make uninstall`, `make header`. DESTDIR is honoured. `FEATURES=finetune`
# builds `triplet_align_*` in; programs that find the library by pkg-config or CMake then see them. Everything else is cargo's.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CARGO ?= cargo
CARGO_TARGET_DIR ?= target
# library, release or dev
PROFILE ?= library
FEATURES ?=
STRIP ?= strip
NM ?= nm
OBJCOPY ?= objcopy

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
ABI := $(shell sed -n 's/^pub const TRIPLET_ABI: u32 = \(.*\);/\1/p' ffi/src/version.rs)
BUILT := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
DEFINE := $(if $(filter finetune,$(FEATURES)),TRIPLET_FINETUNE)
HEADERS := triplet.h triplet.hpp
FILLED := -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' \
          -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@DEFINE@|$(DEFINE)|g'
INSTALLED := $(HEADERS:%=$(INCLUDEDIR)/%) \
             $(LIBDIR)/libtriplet.so.$(VERSION) $(LIBDIR)/libtriplet.so.$(ABI) $(LIBDIR)/libtriplet.so \
             $(LIBDIR)/libtriplet.a $(LIBDIR)/pkgconfig/triplet.pc \
             $(LIBDIR)/cmake/triplet/tripletConfig.cmake $(LIBDIR)/cmake/triplet/tripletConfigVersion.cmake

.PHONY: all install uninstall header
# The static library is one object that lets go of all names but its own, so that it meets no other library's, and not that
# of a second library in Rust.
all:
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) $(CARGO) build --profile $(PROFILE) -p triplet-ffi --features "$(FEATURES)"
	$(NM) -D --defined-only $(BUILT)/libtriplet_c.so | sed -n 's/.* T \(triplet_.*\)/-u \1/p' > $(BUILT)/triplet.exports
	$(LD) -r -S --gc-sections @$(BUILT)/triplet.exports $(BUILT)/libtriplet_c.a -o $(BUILT)/triplet.o
	$(OBJCOPY) -w --keep-global-symbol='triplet_*' --strip-unneeded -R .llvmbc -R .llvmcmd $(BUILT)/triplet.o
	rm -f $(BUILT)/libtriplet_one.a
	$(AR) rcs $(BUILT)/libtriplet_one.a $(BUILT)/triplet.o

install: all
	install -d $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/triplet
	install -m 644 $(HEADERS:%=include/%) $(DESTDIR)$(INCLUDEDIR)
	install -m 755 $(BUILT)/libtriplet_c.so $(DESTDIR)$(LIBDIR)/libtriplet.so.$(VERSION)
	$(STRIP) --strip-unneeded $(DESTDIR)$(LIBDIR)/libtriplet.so.$(VERSION)
	ln -sf libtriplet.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libtriplet.so.$(ABI)
	ln -sf libtriplet.so.$(ABI) $(DESTDIR)$(LIBDIR)/libtriplet.so
	install -m 644 $(BUILT)/libtriplet_one.a $(DESTDIR)$(LIBDIR)/libtriplet.a
	sed $(FILLED) -e 's|@DEFINED@|$(DEFINE:%= -D%)|' ffi/install/triplet.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/triplet.pc
	sed $(FILLED) ffi/install/tripletConfig.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/triplet/tripletConfig.cmake
	sed $(FILLED) ffi/install/tripletConfigVersion.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/triplet/tripletConfigVersion.cmake

uninstall:
	rm -f $(INSTALLED:%=$(DESTDIR)%)
	-rmdir $(DESTDIR)$(LIBDIR)/cmake/triplet

header:
	TRIPLET_WRITE_HEADER=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) $(CARGO) test -p triplet-ffi --test abi header::the_header_is_current

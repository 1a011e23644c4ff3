# Installing what `cargo build --release` makes, and packing it. Nothing here is needed for development.
#
#   make && make install [PREFIX=/usr/local] [DESTDIR=]     programs, manual, completions, systemd's units
#   make uninstall                                          the same, away again; data and configuration stay
#   make deb                                                a Debian package in $(DIST)
#
# PROGRAMS names the directory of programs that were built already.

PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
BINDIR = $(PREFIX)/bin
DATADIR = $(PREFIX)/share
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
PROGRAMS ?= $(CARGO_TARGET_DIR)/$(HOST)/release
DIST ?= $(CARGO_TARGET_DIR)/dist
UNITS = coracle.socket coracle.service coracle-containers.service coracle-shutdown.service
SHELLS = $(DESTDIR)$(DATADIR)/bash-completion/completions/coracle $(DESTDIR)$(DATADIR)/zsh/site-functions/_coracle \
  $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/coracle.fish

.PHONY: all man install uninstall deb

all: $(PROGRAMS)/coracle man

$(PROGRAMS)/coracle:
	$(CARGO) build --release --locked

man: $(DIST)/man/coracle.1

$(DIST)/man/coracle.1:
	$(CARGO) xtask man $(DIST)/man

install: all
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(DATADIR)/man/man1 $(UNITDIR) $(SYSUSERSDIR)) $(dir $(SHELLS))
	install -m 755 $(PROGRAMS)/coracle $(PROGRAMS)/coracle-runtime $(DESTDIR)$(BINDIR)
	install -m 644 $(DIST)/man/*.1 $(DESTDIR)$(DATADIR)/man/man1
	install -m 644 packaging/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/coracle.conf
	for unit in $(UNITS); do \
	  sed 's|@BINDIR@|$(BINDIR)|g' packaging/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit && \
	  chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
	set -e; set -- bash zsh fish; for file in $(SHELLS); do \
	  $(PROGRAMS)/coracle completion $$1 > $$file; chmod 644 $$file; shift; done
	# Somebody's configuration is not overwritten.
	[ -e $(DESTDIR)$(SYSCONFDIR)/coracle/daemon.json ] || \
	  install -D -m 644 packaging/daemon.json $(DESTDIR)$(SYSCONFDIR)/coracle/daemon.json
ifeq ($(DESTDIR),)
	getent group docker > /dev/null || groupadd --system docker
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	@echo 'Now: systemctl enable --now coracle.socket coracle.service coracle-shutdown.service'
	@echo 'or, without systemd: coracle run …, which starts the engine.'
endif

uninstall:
ifeq ($(DESTDIR),)
	[ ! -d /run/systemd/system ] || systemctl disable --now coracle-shutdown.service coracle.service coracle.socket \
	  coracle-containers.service
endif
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) $(DESTDIR)$(SYSUSERSDIR)/coracle.conf $(SHELLS) \
	  $(DESTDIR)$(BINDIR)/coracle $(DESTDIR)$(BINDIR)/coracle-runtime $(DESTDIR)$(DATADIR)/man/man1/coracle.1 \
	  $(DESTDIR)$(DATADIR)/man/man1/coracle-*.1
ifeq ($(DESTDIR),)
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
endif

deb: all
	DIST='$(DIST)' PROGRAMS='$(PROGRAMS)' MAKE='$(MAKE)' packaging/debian/build

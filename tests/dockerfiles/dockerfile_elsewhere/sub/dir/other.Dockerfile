FROM coracle-test-busybox
COPY f /f
COPY sub /sub

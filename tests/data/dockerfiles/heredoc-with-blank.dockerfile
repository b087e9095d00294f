FROM scratch
COPY << E /d
x
E

# imgate in a container: the program, the C library, and nothing else; not as root.
#
#   docker build -t imgate .
#   docker run -p 8081:8081 -v imgate:/data --ulimit nofile=1000000:1000000 imgate
#
# scripts/package.sh makes the same file system without Docker (target/package/imgate-rootfs.tar).
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked -p imgate && install -d -o 65532 -g 65532 /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/dist/imgate /usr/bin/imgate
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
EXPOSE 8081 8082
# A stop is paced and bounded by drain_deadline (10 s): give it `docker stop --time 15`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["/usr/bin/imgate", "ready"]
ENTRYPOINT ["/usr/bin/imgate"]
CMD ["serve", "--data", "/data"]

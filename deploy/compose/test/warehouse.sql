CREATE TABLE deliveries (id BIGINT AUTO_INCREMENT PRIMARY KEY, state VARCHAR(20) NOT NULL);
INSERT INTO deliveries (state) VALUES ('on time'), ('on time'), ('on time');
CREATE USER reader IDENTIFIED BY 'reader';
GRANT SELECT, SHOW VIEW ON warehouse.* TO reader;

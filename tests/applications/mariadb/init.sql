CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.orders (id INT PRIMARY KEY, what VARCHAR(20));
REPLACE INTO shop.orders VALUES (1, 'boat'), (2, 'paddle');
CREATE USER IF NOT EXISTS 'clerk'@'%' IDENTIFIED BY 'secret';
GRANT ALL ON shop.* TO 'clerk'@'%';
